//! A target's page, in both formats: read, remembered, written, and read again.

use podmeter::{
    encode::{Format, encode},
    labelling::relay::{DropReason, NamedPods, Relay, Relayed, Settings},
    page::{
        Page,
        relayed::{RelayedPage, SeriesHasher},
    },
    source::upstream::exposition::Dialect,
};

/// The first byte says which format the rest is in.
pub(crate) fn check(input: &[u8]) {
    let Some((first, page)) = input.split_first() else { return };
    let dialect = if first % 2 == 0 { Dialect::Text } else { Dialect::OpenMetrics };
    let hasher = SeriesHasher::default();
    let Some(warm) = settled(page, dialect, &hasher) else { return };
    let merged = Page::merged(Vec::new(), vec![warm], &hasher);
    for (format, dialect) in
        [(Format::Text004, Dialect::Text), (Format::OpenMetrics100, Dialect::OpenMetrics)]
    {
        let written = encode(&merged, format);
        // A time of a page may have more digits than it needs; what Podmeter wrote of it has not.
        let again = rewritten(&written, format, dialect, &hasher);
        let twice = rewritten(&again, format, dialect, &hasher);
        assert!(again == twice, "{} became {}", again.escape_ascii(), twice.escape_ascii());
    }
}

/// Relays the page until it is known. What stands behind a family's samples, its type for one, is known from the second
/// time on; from then on nothing is read, and nothing changes.
fn settled(page: &[u8], dialect: Dialect, hasher: &SeriesHasher) -> Option<RelayedPage> {
    let mut relay = Relay::new(Settings::default(), hasher.clone());
    // As a whole, and in pieces that end in the middle of lines.
    let mut next = |n_bytes: usize| {
        let pods = NamedPods::default();
        let mut incoming = relay.begin(dialect, &pods);
        for piece in page.chunks(n_bytes) {
            relay.take(&mut incoming, piece, &pods).ok()?;
        }
        relay.end(incoming, &pods).inspect(check_accounts).ok()
    };
    let (first, second, third) = (next(usize::MAX), next(7), next(64));
    assert_eq!(first.is_some(), third.is_some(), "{}", page.escape_ascii());
    let (second, third) = (second?, third?);
    assert_eq!(second.page, third.page);
    // A line that is none is remembered by nobody.
    assert!(third.counts.n_misses <= third.counts.dropped(DropReason::Malformed));
    Some(third.page)
}

/// Every sample is served, or dropped for a reason.
fn check_accounts(relayed: &Relayed) {
    let counts = &relayed.counts;
    assert_eq!(counts.n_samples, counts.n_kept + counts.n_dropped.iter().sum::<usize>());
    assert_eq!(counts.n_kept, relayed.page.n_samples());
}

/// What was written is read without a fault and loses nothing; gives what is written of that.
fn rewritten(written: &[u8], format: Format, dialect: Dialect, hasher: &SeriesHasher) -> Vec<u8> {
    let mut relay = Relay::new(Settings::default(), hasher.clone());
    let again = match relay.relay(written, dialect, &NamedPods::default()) {
        Ok(again) => again,
        Err(error) => panic!("{format:?} {error:?}: {}", written.escape_ascii()),
    };
    let lost = again.counts.n_samples - again.counts.n_kept;
    assert_eq!((lost, &again.first_fault), (0, &None), "{format:?}: {}", written.escape_ascii());
    assert_eq!(again.counts.n_bad_metadata, 0, "{format:?}: {}", written.escape_ascii());
    encode(&Page::merged(Vec::new(), vec![again.page], hasher), format)
}
