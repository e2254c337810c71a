//! The cgroups of this machine, as a collection looks at them.

use std::{
    sync::{Arc, Mutex, PoisonError},
    time::Instant,
};

use tokio::task;
use tracing::{info, warn};

use crate::{
    cgroup::follow::{CgroupFollower, Followed},
    error_chain::one_line,
};

/// The cgroups, if there is a hierarchy to follow; looking at them may block, and is done beside the runtime.
#[derive(Clone, Debug)]
pub(super) struct Cgroups(Arc<Mutex<State>>);

#[derive(Debug)]
struct State {
    follower: Option<CgroupFollower>,
    /// The last problem that was logged.
    reported: Option<String>,
}

impl Cgroups {
    pub(super) fn new(follower: Option<CgroupFollower>) -> Self {
        Self(Arc::new(Mutex::new(State { follower, reported: None })))
    }

    /// What came, what went, and which are gone for long enough to be freed.
    pub(super) async fn refresh(&self, now: Instant) -> Followed {
        self.look(move |state| state.refresh(now)).await
    }

    /// What came and went; nothing is freed.
    pub(super) async fn catch_up(&self, now: Instant) -> Followed {
        self.look(move |state| {
            let follower = state.follower.as_mut();
            follower.map_or_else(Followed::default, |follower| follower.catch_up(now))
        })
        .await
    }

    async fn look(&self, look: impl FnOnce(&mut State) -> Followed + Send + 'static) -> Followed {
        let state = Arc::clone(&self.0);
        let look = move || look(&mut state.lock().unwrap_or_else(PoisonError::into_inner));
        task::spawn_blocking(look).await.unwrap_or_else(|error| {
            warn!(%error, "following the cgroups panicked, which is a bug");
            Followed::default()
        })
    }
}

impl State {
    fn refresh(&mut self, now: Instant) -> Followed {
        let Some(follower) = &mut self.follower else {
            return Followed::default();
        };
        let followed = follower.refresh(now);
        let problem = follower.problem().map(|error| one_line(error));
        if problem != self.reported {
            if let Some(problem) = &problem {
                warn!(%problem, "cgroups are not followed as they should be");
            } else {
                info!("cgroups are followed again");
            }
            self.reported = problem;
        }
        followed
    }
}
