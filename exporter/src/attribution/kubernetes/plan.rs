//! What to ask the API server next, given how the last request went: lists, watches, and waits. Pure.

use std::time::Duration;

use super::api::{ErrorKind, ListFrom};
use crate::jitter::{Backoff, Jitter};

/// Waits after failures: the first, and the longest. With 5,000 nodes that is 170 to 330 requests a second to a server
/// that comes back.
const FIRST_WAIT: Duration = Duration::from_millis(500);
const LAST_WAIT: Duration = Duration::from_secs(30);

/// A request to make.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Ask {
    /// A watch that begins with all pods.
    Stream,
    /// A page of all pods.
    List(ListFrom),
    /// Changes since this version.
    Watch(String),
}

/// How a request or a watch ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum End {
    /// As it should: the list has a next page or is complete, the watch's time was up.
    Done,
    /// A watch that ended before anything came.
    Empty,
    /// The server cannot begin a watch with all pods, and says so.
    NotStreaming,
    /// By an error.
    Failed {
        kind: ErrorKind,
        /// What the server asked for.
        retry_after: Option<Duration>,
    },
}

/// Whether the server is believed to be able to begin a watch with all pods (Kubernetes 1.34, in beta since 1.32).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Streaming {
    /// Until it is known better.
    Supposed,
    /// It said that it cannot, or never began. What it said is forgotten when a connection is lost, which is how a server
    /// is replaced by a newer one.
    Unsupported,
}

/// Where the watch of the pods is.
#[derive(Debug)]
pub(super) struct Plan {
    streaming: Streaming,
    /// The version that is known completely; a watch goes on from there.
    at: Option<String>,
    /// The newest version that was ever seen: no list may be older.
    newest: Option<String>,
    /// The next page of the list that is being read.
    page: Option<String>,
    backoff: Backoff,
    jitter: Jitter,
}

impl Plan {
    pub(super) fn new() -> Self {
        Self {
            streaming: Streaming::Supposed,
            at: None,
            newest: None,
            page: None,
            backoff: Backoff::new(FIRST_WAIT, LAST_WAIT),
            jitter: Jitter::default(),
        }
    }

    /// What to ask for next.
    pub(super) fn next(&self) -> Ask {
        if let Some(version) = &self.at {
            return Ask::Watch(version.clone());
        }
        if self.streaming == Streaming::Supposed {
            return Ask::Stream;
        }
        let from = match (&self.page, &self.newest) {
            (Some(page), _) => ListFrom::Page(page.clone()),
            (None, Some(newest)) => ListFrom::NotOlderThan(newest.clone()),
            (None, None) => ListFrom::Cache,
        };
        Ask::List(from)
    }

    /// A page of a list came; says whether it was the last one.
    pub(super) fn page(&mut self, version: &str, next: &str) -> bool {
        if next.is_empty() {
            self.page = None;
            self.synced(version);
            return true;
        }
        self.page = Some(next.into());
        false
    }

    /// All pods came at the beginning of a watch.
    pub(super) fn streamed(&mut self, version: &str) {
        self.synced(version);
    }

    /// An event of a watch came.
    pub(super) fn event(&mut self, version: &str) {
        self.backoff.reset();
        if self.at.is_some() && !version.is_empty() {
            self.synced(version);
        }
    }

    /// How long to wait before the next request.
    pub(super) fn ended(&mut self, asked: &Ask, end: End) -> Duration {
        match end {
            End::Done => {
                if matches!(asked, Ask::Watch(_)) {
                    self.backoff.reset();
                }
                Duration::ZERO
            }
            End::Empty => self.backoff.after_failure(&mut self.jitter),
            End::NotStreaming => {
                self.streaming = Streaming::Unsupported;
                Duration::ZERO
            }
            End::Failed { kind, retry_after } => self.failed(asked, kind, retry_after),
        }
    }

    /// How long a watch is asked for; each for another time, so that the nodes spread.
    pub(super) fn watch_seconds(&mut self) -> u64 {
        self.jitter.part_of(Duration::from_mins(5), 0.8).as_secs()
    }

    fn synced(&mut self, version: &str) {
        self.at = Some(version.into());
        self.newest = Some(version.into());
    }

    fn failed(&mut self, asked: &Ask, kind: ErrorKind, retry_after: Option<Duration>) -> Duration {
        let is_refusal = matches!(
            kind,
            ErrorKind::Expired | ErrorKind::Refused | ErrorKind::Server | ErrorKind::Protocol
        );
        if kind == ErrorKind::Connection {
            self.streaming = Streaming::Supposed;
        }
        match asked {
            // A server that knows nothing of such watches and sends what it likes, or one that is too busy for them.
            Ask::Stream if kind == ErrorKind::Timeout => self.streaming = Streaming::Unsupported,
            // Whatever the reason (410, or 500 where the version is the one that was compacted): a version that a watch
            // cannot go on from is of no use.
            Ask::Watch(_) if is_refusal => {
                self.at = None;
            }
            // The connection broke: what is known is still complete up to there.
            Ask::Stream | Ask::Watch(_) => {}
            Ask::List(from) => {
                self.page = None;
                // A server that was restored from a backup is behind what was seen, and never catches up.
                if is_refusal && matches!(from, ListFrom::NotOlderThan(_)) {
                    self.newest = None;
                }
            }
        }
        let wait = self.backoff.after_failure(&mut self.jitter);
        wait.max(retry_after.unwrap_or_default())
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use proptest::{collection::vec, prelude::proptest, sample::select};

    use super::{Ask, End, LAST_WAIT, Plan};
    use crate::attribution::kubernetes::api::{ErrorKind, ListFrom};

    fn failed(kind: ErrorKind) -> End {
        End::Failed { kind, retry_after: None }
    }

    fn fail(plan: &mut Plan, kind: ErrorKind) -> Duration {
        let asked = plan.next();
        plan.ended(&asked, failed(kind))
    }

    /// A plan that watches from a version of an old server.
    fn watching() -> Plan {
        let mut plan = Plan::new();
        assert_eq!(plan.ended(&Ask::Stream, End::NotStreaming), Duration::ZERO);
        assert!(plan.page("5", ""));
        plan
    }

    #[test]
    fn a_new_server_streams_and_goes_on_by_watches() {
        let mut plan = Plan::new();
        assert_eq!(plan.next(), Ask::Stream);
        plan.event("3");
        assert_eq!(plan.next(), Ask::Stream, "not complete before the bookmark says so");
        plan.streamed("7");
        plan.event("9");
        assert_eq!(plan.ended(&Ask::Stream, End::Done), Duration::ZERO);
        assert_eq!(plan.next(), Ask::Watch("9".into()));
        fail(&mut plan, ErrorKind::Expired);
        assert_eq!(plan.next(), Ask::Stream);
    }

    #[test]
    fn an_old_server_is_asked_for_a_list_at_once() {
        let mut plan = Plan::new();
        assert_eq!(plan.ended(&Ask::Stream, End::NotStreaming), Duration::ZERO);
        assert_eq!(plan.next(), Ask::List(ListFrom::Cache));
        assert!(!plan.page("5", "token"));
        assert_eq!(plan.next(), Ask::List(ListFrom::Page("token".into())));
        fail(&mut plan, ErrorKind::Expired);
        assert_eq!(plan.next(), Ask::List(ListFrom::Cache), "an expired page begins the list anew");
        assert!(plan.page("6", ""));
        assert_eq!(plan.next(), Ask::Watch("6".into()));
    }

    #[test]
    fn a_broken_connection_goes_on_and_a_refusal_lists_again() {
        for kind in ErrorKind::ALL {
            let mut plan = watching();
            fail(&mut plan, kind);
            let expected = match kind {
                ErrorKind::Expired
                | ErrorKind::Refused
                | ErrorKind::Server
                | ErrorKind::Protocol => Ask::List(ListFrom::NotOlderThan("5".into())),
                _ => Ask::Watch("5".into()),
            };
            assert_eq!(plan.next(), expected, "{kind:?}");
        }
    }

    #[test]
    fn a_server_that_cannot_stream_is_not_asked_again_before_it_may_be_another() {
        let mut plan = watching();
        for _ in 0..3 {
            fail(&mut plan, ErrorKind::Expired);
            assert_eq!(plan.next(), Ask::List(ListFrom::NotOlderThan("5".into())));
            assert!(plan.page("5", ""));
        }
        fail(&mut plan, ErrorKind::Connection);
        assert_eq!(plan.next(), Ask::Watch("5".into()), "what is known is gone on from");
        fail(&mut plan, ErrorKind::Expired);
        assert_eq!(plan.next(), Ask::Stream);
    }

    #[test]
    fn a_server_that_can_no_longer_stream_is_listed() {
        let mut plan = Plan::new();
        plan.streamed("7");
        fail(&mut plan, ErrorKind::Connection);
        fail(&mut plan, ErrorKind::Expired);
        assert_eq!(plan.ended(&Ask::Stream, End::NotStreaming), Duration::ZERO);
        assert_eq!(plan.next(), Ask::List(ListFrom::NotOlderThan("7".into())));
    }

    #[test]
    fn a_server_that_never_begins_to_stream_is_listed() {
        let mut plan = Plan::new();
        fail(&mut plan, ErrorKind::Timeout);
        assert_eq!(plan.next(), Ask::List(ListFrom::Cache));
    }

    #[test]
    fn a_server_that_is_behind_is_believed_in_the_end() {
        let mut plan = watching();
        fail(&mut plan, ErrorKind::Expired);
        fail(&mut plan, ErrorKind::Server);
        assert_eq!(plan.next(), Ask::List(ListFrom::Cache));
    }

    #[test]
    fn an_hour_without_a_server_is_waited_for_in_half_minutes() {
        let (mut plan, mut waited, mut n_requests) = (watching(), Duration::ZERO, 0);
        while waited < Duration::from_hours(1) {
            waited += fail(&mut plan, ErrorKind::Connection);
            n_requests += 1;
        }
        assert!(n_requests < 250, "{n_requests} requests");
        assert_eq!(plan.next(), Ask::Watch("5".into()), "nothing is known to be lost");
    }

    #[test]
    fn the_server_is_left_alone_as_long_as_it_asks() {
        let mut plan = watching();
        let retry_after = Some(Duration::from_secs(50));
        let asked = plan.next();
        let end = End::Failed { kind: ErrorKind::Throttled, retry_after };
        assert_eq!(plan.ended(&asked, end), Duration::from_secs(50));
    }

    proptest! {
        /// Whatever fails how often: the waits grow to half a minute, and as soon as the server answers, all is well.
        #[test]
        fn no_sequence_of_failures_is_a_dead_end(kinds in vec(select(ErrorKind::ALL.to_vec()), 0..40)) {
            let mut plan = Plan::new();
            for kind in kinds {
                assert!(fail(&mut plan, kind) <= LAST_WAIT);
            }
            for _ in 0..3 {
                match plan.next() {
                    Ask::Stream => plan.streamed("8"),
                    Ask::List(_) => assert!(plan.page("8", "")),
                    Ask::Watch(_) => plan.event("9"),
                }
            }
            assert_eq!(plan.next(), Ask::Watch("9".into()));
        }
    }
}
