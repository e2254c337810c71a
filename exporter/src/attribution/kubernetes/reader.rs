//! Reading the objects around the pods, when the store says so: a few at a time, and none while the server is away.

use std::time::{Duration, Instant};

use tokio::{task::JoinSet, time};
use tracing::{debug, warn};

use super::{
    Shared,
    api::{Api, ApiError, ErrorKind},
    owners::{Object, ObjectKey, Unread},
    status::Operation,
};
use crate::{
    error_chain::one_line,
    jitter::{Backoff, Jitter},
};

/// Reads at once: 110 pods that start together are named within seconds, and the server has other clients.
const MAX_READS: usize = 8;
/// The pause after the server was away: the first, and the longest.
const FIRST_PAUSE: Duration = Duration::from_secs(1);
const LAST_PAUSE: Duration = Duration::from_secs(30);
/// Longest wait without a look at what is due, so that what nobody needs any more is forgotten.
const LONGEST_WAIT: Duration = Duration::from_mins(1);

/// Reads what is due, for ever.
pub(super) async fn run(api: &Api, shared: &Shared) {
    let mut backoff = Backoff::new(FIRST_PAUSE, LAST_PAUSE);
    let mut jitter = Jitter::default();
    loop {
        let now = Instant::now();
        let (mut due, next_due) = shared.with_store(|store| (store.due(now), store.next_due()));
        due.truncate(MAX_READS);
        if due.is_empty() {
            backoff.reset();
            shared.settle_if_known();
            let wait = next_due.map_or(LONGEST_WAIT, |due| due.saturating_duration_since(now));
            tokio::select! {
                () = shared.changed.notified() => {}
                () = time::sleep(wait.min(LONGEST_WAIT)) => {}
            }
        } else if read(api, shared, due).await == Server::Away {
            time::sleep(backoff.after_failure(&mut jitter)).await;
        }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Server {
    Answers,
    Away,
}

async fn read(api: &Api, shared: &Shared, due: Vec<ObjectKey>) -> Server {
    let mut reads = JoinSet::new();
    for key in due {
        if !api.knows_place(&key.kind) {
            // The server is asked for it first.
            shared.asked(Operation::Get);
        }
        shared.asked(Operation::Get);
        let api = api.clone();
        reads.spawn(async move {
            let answer = api.metadata(&key).await;
            (key, answer)
        });
    }
    let mut server = Server::Answers;
    while let Some(joined) = reads.join_next().await {
        let Ok((key, answer)) = joined else {
            // A panic, which the log has; the object stays due.
            server = Server::Away;
            continue;
        };
        if let Err(error) = &answer {
            if is_away(error) {
                server = Server::Away;
            }
            shared.read_failed(&key, error);
        }
        let answer = match answer {
            Ok(metadata) => {
                shared.with_status(|status| status.allowed(key.kind.name()));
                let controller = metadata.controller();
                let (uid, metadata) = metadata.prune(&key.kind.keys(&shared.wanted));
                if key.uid.as_deref().is_some_and(|wanted| *wanted != uid) {
                    Err(Unread::NotFound)
                } else {
                    Ok(Object { controller, metadata: metadata.into() })
                }
            }
            Err(error) if error.kind() == ErrorKind::NotFound => Err(Unread::NotFound),
            Err(_) => Err(Unread::Failed),
        };
        shared.with_store(|store| store.answer(&key, answer, Instant::now()));
    }
    server
}

/// Whether there is no sense in asking for the next object.
fn is_away(error: &ApiError) -> bool {
    matches!(
        error.kind(),
        ErrorKind::Connection | ErrorKind::Timeout | ErrorKind::Throttled | ErrorKind::Unauthorized
    )
}

impl Shared {
    fn read_failed(&self, key: &ObjectKey, error: &ApiError) {
        if error.kind() == ErrorKind::NotFound {
            // Not an error: owners are deleted before what they own.
            return;
        }
        let resource = key.kind.name();
        let is_news = self
            .with_status(|status| status.failed(Operation::Get, resource, error, Instant::now()));
        let error = one_line(error);
        if is_news {
            warn!(resource, %error, "cannot read an object; names and labels from it may be missing");
        } else {
            debug!(resource, %error, "cannot read an object");
        }
    }
}
