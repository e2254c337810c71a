//! Access to the maps of a probe: reading counts, freeing those of owners that are gone, making the remainders.

use std::{collections::HashSet, io::ErrorKind};

use aya::{
    Ebpf, Pod,
    maps::{HashMap, Map, MapError, PerCpuArray},
};
use podmeter_common::{
    histogram,
    owner::{Counts, Key, REMAINDER, SocketOwner},
    skip::Skip,
};

use super::running::MapUse;
use crate::{
    metric::Histogram,
    paths::HostPaths,
    subject::{CgroupId, NetworkNamespaceId, Subject},
};

/// A map of counts, whose keys begin with an owner.
pub(super) struct TableDef {
    name: &'static str,
    /// Its size in the object.
    capacity: u32,
    /// Whom an owner means.
    subject: fn(CgroupId) -> Subject,
    forget: fn(&mut Ebpf, &Self, &HashSet<Subject>) -> Result<(), MapError>,
    make_remainders: fn(&mut Ebpf, &str) -> Result<(), MapError>,
}

impl TableDef {
    /// The map with these keys and values, whose owners are cgroups of the hierarchy that has the cpu controller.
    pub(super) const fn new<K: Key + Pod, V: Counts + Pod>(
        name: &'static str,
        capacity: u32,
    ) -> Self {
        Self {
            name,
            capacity,
            subject: Subject::Cgroup,
            forget: forget::<K, V>,
            make_remainders: make_remainders::<K, V>,
        }
    }

    /// The same map where its owners are others.
    pub(super) const fn of(self, subject: fn(CgroupId) -> Subject) -> Self {
        Self { subject, ..self }
    }

    /// Whom the owner of an entry means.
    pub(super) fn subject(&self, owner: u64) -> Subject {
        (self.subject)(CgroupId(owner))
    }

    /// Frees the entries of these owners.
    pub(super) fn forget(
        &self,
        ebpf: &mut Ebpf,
        owners: &HashSet<Subject>,
    ) -> Result<(), MapError> {
        (self.forget)(ebpf, self, owners)
    }

    /// Makes the entries into which the programs count what finds no room.
    pub(super) fn make_remainders(&self, ebpf: &mut Ebpf) -> Result<(), MapError> {
        (self.make_remainders)(ebpf, self.name)
    }
}

fn forget<K: Key + Pod, V: Counts + Pod>(
    ebpf: &mut Ebpf,
    def: &TableDef,
    owners: &HashSet<Subject>,
) -> Result<(), MapError> {
    let map = ebpf.map_mut(def.name).ok_or_else(|| no_map(def.name))?;
    let mut table = HashMap::<_, K, V>::try_from(map)?;
    let keys: Vec<K> = table.keys().collect::<Result<_, _>>()?;
    // Of a table of sockets the owner is either; no cgroup of v1 has the number of a namespace, which is above 2^31.
    let is_gone = |key: &&K| {
        let owner = key.owner();
        owners.contains(&def.subject(owner))
            || owners.contains(&Subject::NetworkNamespace(NetworkNamespaceId(owner)))
    };
    for key in keys.iter().filter(is_gone) {
        match table.remove(key) {
            Ok(()) => {}
            Err(MapError::SyscallError(error)) if error.io_error.kind() == ErrorKind::NotFound => {}
            Err(error) => return Err(error),
        }
    }
    Ok(())
}

fn make_remainders<K: Key + Pod, V: Counts + Pod>(
    ebpf: &mut Ebpf,
    name: &str,
) -> Result<(), MapError> {
    let map = ebpf.map_mut(name).ok_or_else(|| no_map(name))?;
    let mut table = HashMap::<_, K, V>::try_from(map)?;
    K::REMAINDERS.iter().try_for_each(|key| table.insert(key, V::ZERO, 0))
}

/// One look at the maps of a probe.
pub(super) struct Reader<'a> {
    ebpf: &'a Ebpf,
    /// Where the host's files are.
    pub(super) paths: &'a HostPaths,
    /// The words for numbers that the programs count by.
    pub(super) names: &'a [(u32, String)],
    socket_owner: SocketOwner,
    uses: Vec<MapUse>,
}

impl<'a> Reader<'a> {
    pub(super) fn new(
        ebpf: &'a Ebpf,
        paths: &'a HostPaths,
        names: &'a [(u32, String)],
        socket_owner: SocketOwner,
    ) -> Self {
        Self { ebpf, paths, names, socket_owner, uses: Vec::new() }
    }

    /// All entries of a map of counts, but for remainders of nothing.
    pub(super) fn entries<K: Key + Pod, V: Counts + Pod>(
        &mut self,
        table: &TableDef,
    ) -> Result<Vec<(K, V)>, MapError> {
        let map = self.ebpf.map(table.name).ok_or_else(|| no_map(table.name))?;
        let map = HashMap::<_, K, V>::try_from(map)?;
        let mut entries: Vec<(K, V)> = map.iter().collect::<Result<_, _>>()?;
        self.uses.push(MapUse {
            map: table.name,
            n_entries: entries.len(),
            capacity: table.capacity,
        });
        entries.retain(|(key, counts)| key.owner() != REMAINDER || *counts != V::ZERO);
        Ok(entries)
    }

    /// Whom the owner of a socket is, or the remainder.
    pub(super) fn socket_subject(&self, owner: u64) -> Subject {
        match self.socket_owner {
            SocketOwner::NetworkNamespace if owner != REMAINDER => {
                Subject::NetworkNamespace(NetworkNamespaceId(owner))
            }
            SocketOwner::NetworkNamespace | SocketOwner::Cgroup => Subject::Cgroup(CgroupId(owner)),
        }
    }

    /// How full the maps were that were read.
    pub(super) fn into_uses(self) -> Vec<MapUse> {
        self.uses
    }
}

/// Sums of the per-CPU array `SKIPPED`, for the reasons that the probe can give.
pub(super) fn skipped(ebpf: &Ebpf, reasons: &[Skip]) -> Result<Vec<(&'static str, u64)>, MapError> {
    let map: &Map = ebpf.map("SKIPPED").ok_or_else(|| no_map("SKIPPED"))?;
    let slots = PerCpuArray::<_, u64>::try_from(map)?;
    let total =
        |reason: &Skip| Ok((reason.as_str(), slots.get(&(*reason as u32), 0)?.iter().sum()));
    reasons.iter().map(total).collect()
}

fn no_map(name: &str) -> MapError {
    MapError::InvalidName { name: name.into() }
}

/// A histogram of nanoseconds as one of seconds.
pub(super) fn seconds<const N: usize>(
    histogram: &histogram::Histogram<N>,
    bounds: &'static [f64],
) -> Histogram {
    #[expect(clippy::cast_precision_loss, reason = "104 days are exact to the nanosecond")]
    let sum = histogram.sum as f64 / 1e9;
    Histogram { bounds, buckets: histogram.buckets.to_vec(), sum }
}

/// Bounds in nanoseconds as bounds in seconds.
#[expect(
    clippy::cast_precision_loss,
    clippy::indexing_slicing,
    reason = "evaluated at compile time on a literal of small numbers"
)]
pub(super) const fn bounds_seconds<const N: usize>(bounds_ns: [u64; N]) -> [f64; N] {
    let mut bounds = [0.0; N];
    let mut index = 0;
    while index < N {
        bounds[index] = bounds_ns[index] as f64 / 1e9;
        index += 1;
    }
    bounds
}

#[cfg(test)]
mod tests {
    use podmeter_common::{cpu_throttle::Throttles, owner::Counts as _};

    use super::{bounds_seconds, seconds};

    #[test]
    fn a_histogram_has_the_sum_in_seconds_and_every_bucket() {
        static BOUNDS: [f64; 17] = bounds_seconds(podmeter_common::cpu_throttle::BOUNDS_NS);
        let mut throttles = Throttles { sum: 90_500_000, ..Throttles::ZERO };
        throttles.buckets[0] = 1;
        throttles.buckets[12] = 1;
        let histogram = seconds(&throttles, &BOUNDS);
        assert!((histogram.sum - 0.0905).abs() < 1e-12);
        assert_eq!(histogram.count(), 2);
        assert_eq!(histogram.buckets.len(), histogram.bounds.len() + 1);
    }
}
