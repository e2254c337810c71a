//! Who is connected, and who makes room when all connections are taken: whoever has asked for nothing for longest. A crowd
//! that connects and says nothing so delays a scraper by no more than [`Limits::room_time`] at a time, and a scraper whose
//! connection was kept for its next scrape makes another.
//!
//! [`Limits::room_time`]: super::limits::Limits::room_time

use std::{
    sync::{Arc, Mutex, PoisonError, Weak},
    time::Duration,
};

use tokio::{
    sync::{Notify, OwnedSemaphorePermit, Semaphore},
    time::Instant,
};

use super::pace::Pace;

/// All connections; those that have ended are forgotten when the next one comes.
#[derive(Debug, Default)]
pub(super) struct Crowd(Mutex<Vec<Weak<Member>>>);

/// One connection.
#[derive(Debug)]
pub(super) struct Member {
    pub(super) pace: Pace,
    away: Notify,
}

impl Member {
    /// Waits until it is to make room.
    pub(super) async fn sent_away(&self) {
        self.away.notified().await;
    }
}

impl Crowd {
    /// Takes in a connection that has just been made.
    pub(super) fn enter(&self) -> Arc<Member> {
        let member = Arc::new(Member { pace: Pace::new(), away: Notify::new() });
        let mut members = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        members.retain(|known| known.strong_count() > 0);
        members.push(Arc::downgrade(&member));
        member
    }

    /// Waits for a free slot, for which connections are sent away that have been silent for at least so long.
    pub(super) async fn room(
        &self,
        slots: &Arc<Semaphore>,
        room_time: Duration,
    ) -> Option<OwnedSemaphorePermit> {
        loop {
            let pause = self.send_away(room_time);
            let slot = Arc::clone(slots).acquire_owned();
            if let Ok(slot) = tokio::time::timeout(pause, slot).await {
                // The semaphore is never closed.
                return slot.ok();
            }
        }
    }

    /// Sends away who has been silent for longest, if that is long enough, and gives how long to wait before the next.
    fn send_away(&self, room_time: Duration) -> Duration {
        let mut members = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let silent = members.iter().enumerate().filter_map(|(idx, member)| {
            let member = member.upgrade()?;
            Some((member.pace.silent_since()?, idx, member))
        });
        let Some((since, idx, member)) = silent.min_by_key(|(since, ..)| *since) else {
            return room_time;
        };
        let silent_for = Instant::now().saturating_duration_since(since);
        if silent_for < room_time {
            return room_time.saturating_sub(silent_for);
        }
        members.swap_remove(idx);
        member.away.notify_one();
        room_time
    }
}
