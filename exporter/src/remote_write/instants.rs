//! When is collected: at the same offset into each interval of the wall clock, another one on each node. Pure.

use std::time::Duration;

use md5::{Digest as _, Md5};

/// A moment of the wall clock, in milliseconds since the Unix epoch.
pub(super) type Milliseconds = i64;

/// The instants of one node.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Instants {
    interval: Milliseconds,
    offset: Milliseconds,
}

impl Instants {
    /// Those of a node; its name spreads the nodes of a cluster over the interval, and a restart changes nothing.
    pub(super) fn new(interval: Duration, node_name: &str) -> Self {
        let interval = Milliseconds::try_from(interval.as_millis()).unwrap_or(Milliseconds::MAX);
        let interval = interval.max(1);
        let hash = u128::from_be_bytes(Md5::digest(node_name.as_bytes()).into());
        // Half of the hash is enough, and is no negative number.
        let hash = Milliseconds::try_from(hash >> 65).unwrap_or_default();
        Self { interval, offset: hash.rem_euclid(interval) }
    }

    /// The first one after that moment.
    pub(super) fn after(&self, moment: Milliseconds) -> Milliseconds {
        let since = moment.saturating_sub(self.offset).rem_euclid(self.interval);
        moment.saturating_add(self.interval - since)
    }

    /// How many there are behind the first moment and before the second.
    pub(super) fn between(&self, first: Milliseconds, second: Milliseconds) -> u64 {
        let span = second.saturating_sub(self.after(first));
        if span <= 0 {
            return 0;
        }
        // Rounded up: the second moment itself is not among them.
        let n_instants = span.saturating_add(self.interval - 1) / self.interval;
        u64::try_from(n_instants).unwrap_or_default()
    }
}

#[cfg(test)]
mod tests {
    use std::{collections::BTreeSet, time::Duration};

    use super::Instants;

    #[test]
    fn instants_are_an_interval_apart_whenever_one_looks() {
        let instants = Instants::new(Duration::from_secs(15), "node-1");
        let first = instants.after(1_700_000_000_000);
        for late in [0, 1, 14_999] {
            assert_eq!(instants.after(first + late), first + 15_000);
        }
        assert_eq!(instants.after(first - 1), first);
        assert_eq!(instants, Instants::new(Duration::from_secs(15), "node-1"));
    }

    #[test]
    fn what_was_missed_is_counted() {
        let instants = Instants::new(Duration::from_secs(1), "n");
        let first = instants.after(1_000_000);
        assert_eq!(instants.between(first, first + 1000), 0);
        assert_eq!(instants.between(first, first + 1001), 1);
        assert_eq!(instants.between(first, first + 3000), 2);
        assert_eq!(instants.between(first, first), 0);
        assert_eq!(instants.between(first + 5, first), 0);
    }

    #[test]
    fn nodes_are_spread_over_the_interval() {
        let interval = Duration::from_secs(10);
        let tenths: BTreeSet<_> = (0..200)
            .map(|idx| Instants::new(interval, &format!("node-{idx}")).offset / 1000)
            .collect();
        assert_eq!(tenths.len(), 10, "{tenths:?}");
    }
}
