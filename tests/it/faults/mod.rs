//! The whole runs, and one part of it breaks, or several at once: what is served all the while, what is counted, and at
//! which scrape it is whole again.
//!
//! The expectations are numbers of series, of targets and of scrapes, never times. What a single target can do wrong is in
//! `page::bad_targets`, what the API server can do wrong in `cluster::`; here a part is gone for all, or for Podmeter itself.
//!
//! | file | what breaks |
//! |---|---|
//! | `outages.rs` | targets, the API server, the token; each and all at once |
//! | `process.rs` | Podmeter itself: stopped, killed, asked to end |
//! | `limits.rs` | memory, file descriptors, the disk |
//! | `clients.rs` | clients by the thousand, clients that do not read |
//! | `requests.rs` | requests that are none |
//! | `receivers.rs` | receivers of remote write, alone and with everything else |
//! | `churn.rs` | cgroups that come and go |
//! | `instances.rs` | nothing: a start, and a second Podmeter beside the first |
//!
//! Servers that Podmeter asks are behind a `podmeter_tests::gate::Gate` of `Around`; one that it sends to is a
//! `podmeter_tests::post_server`, which breaks in more ways than being away.
//!
//! Each test has a Podmeter of its own, so that they run side by side.

mod churn;
mod clients;
mod instances;
mod limits;
mod outages;
mod process;
mod receivers;
mod requests;
