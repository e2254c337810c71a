//! CFS quotas, and what the kernel counts about them, from `cpu.max` and `cpu.stat` (v2) or `cpu.cfs_quota_us`,
//! `cpu.cfs_period_us` and `cpu.stat` (v1) of every cgroup.
//!
//! A cgroup without a quota has none of these series, so that "no quota" and "never throttled" differ. The counters of
//! a cgroup that ended stay at their last values for as long as the tree knows it; its quota ends with it. The numbers
//! are those of a cgroup's own quota: neither its parents' nor those of the cgroups below.

use std::{
    collections::HashMap,
    fs::{self, File},
    path::PathBuf,
};

use crate::{
    cgroup::{
        hierarchy::{Hierarchy, Version},
        tree::{CgroupEntry, CgroupTree},
    },
    metric::{Desc, Family, Kind, OwnLabels, Sample, Value},
    paths::HostPaths,
    source::host::{
        cpu_files::{
            CpuStat, number, parse_cpu_max, parse_cpu_stat, parse_period_us, parse_quota_us,
        },
        kept_files::{FileReader, ReadError, max_kept_files},
    },
    subject::{CgroupId, Subject},
};

/// The families, in the order in which they are given.
pub const METRICS: &[Desc] = &[PERIODS, THROTTLED_PERIODS, THROTTLED_SECONDS, QUOTA];

const PERIODS: Desc = Desc {
    name: "podmeter_cpu_cfs_periods_total",
    help: "Enforcement periods of the CPU quota in which the cgroup had something to run.",
    kind: Kind::Counter,
    unit: "",
    labels: &[],
    origin: "cpu.stat nr_periods",
};

const THROTTLED_PERIODS: Desc = Desc {
    name: "podmeter_cpu_cfs_throttled_periods_total",
    help: "Enforcement periods of the CPU quota in which the cgroup used it up and had to wait.",
    kind: Kind::Counter,
    unit: "",
    labels: &[],
    origin: "cpu.stat nr_throttled",
};

const THROTTLED_SECONDS: Desc = Desc {
    name: "podmeter_cpu_cfs_throttled_seconds_total",
    help: "Time that the cgroup had to wait because its CPU quota was used up, added up over all CPUs.",
    kind: Kind::Counter,
    unit: "seconds",
    labels: &[],
    origin: "cpu.stat throttled_usec; v1: throttled_time",
};

const QUOTA: Desc = Desc {
    name: "podmeter_cpu_quota_cores",
    help: "CPU time that the cgroup may use per unit of time, absent where there is no limit.",
    kind: Kind::Gauge,
    unit: "cores",
    labels: &[],
    origin: "cpu.max; v1: cpu.cfs_quota_us / cpu.cfs_period_us",
};

/// What one read gave.
#[derive(Debug)]
pub struct Reading {
    /// All of [`METRICS`].
    pub families: Vec<Family>,
    /// Cgroups that are missing because of a file that could not be read or parsed.
    pub n_failed: u64,
    /// The first of these failures.
    pub first_failure: Option<ReadError>,
}

/// Reads the files of all cgroups of one hierarchy.
#[derive(Debug)]
pub struct CgroupCpu {
    version: Version,
    mount_point: PathBuf,
    /// No larger than the tree.
    slots: HashMap<CgroupId, Slot>,
    files: FileReader,
}

/// What is kept about one cgroup.
#[derive(Debug, Default)]
struct Slot {
    /// Its counters, if it has or had a quota.
    last: Option<CpuStat>,
    quota: Option<File>,
    period: Option<File>,
    stat: Option<File>,
}

impl CgroupCpu {
    /// A reader without any last values, which keeps as many files open as this process may.
    #[must_use]
    pub fn new(hierarchy: &Hierarchy, paths: &HostPaths) -> Self {
        let limits = fs::read_to_string(paths.proc.join("self/limits")).unwrap_or_default();
        Self::keeping(hierarchy, max_kept_files(&limits))
    }

    fn keeping(hierarchy: &Hierarchy, max_kept_files: usize) -> Self {
        Self {
            version: hierarchy.version,
            mount_point: hierarchy.mount_point.clone(),
            slots: HashMap::new(),
            files: FileReader::new(max_kept_files),
        }
    }

    /// Reads every live cgroup's files; blocks on the kernel for microseconds per cgroup.
    ///
    /// A cgroup that vanishes meanwhile is no failure. An error means that nothing at all could be read.
    pub fn read(&mut self, tree: &CgroupTree) -> Result<Reading, ReadError> {
        self.close_ended(tree);
        let mut samples = Samples::with_capacity(self.slots.len());
        let mut n_read = 0_usize;
        let mut n_failed = 0;
        let mut first_failure = None;
        for entry in tree.iter() {
            if entry.is_live() {
                match self.read_cgroup(entry) {
                    Ok(quota) => {
                        n_read += 1;
                        samples.push_quota(entry.id, quota);
                    }
                    Err(error) => {
                        n_failed += 1;
                        first_failure.get_or_insert(error);
                        continue;
                    }
                }
            }
            if let Some(stat) = self.slots.get(&entry.id).and_then(|slot| slot.last) {
                samples.push_stat(entry.id, stat);
            }
        }
        match first_failure {
            Some(error) if n_read == 0 => Err(error),
            first_failure => {
                Ok(Reading { families: samples.into_families(), n_failed, first_failure })
            }
        }
    }

    /// Closes the files of the dead and forgets the freed.
    fn close_ended(&mut self, tree: &CgroupTree) {
        self.slots.retain(|&id, slot| {
            let entry = tree.get(id);
            if !entry.is_some_and(CgroupEntry::is_live) {
                for file in [&mut slot.quota, &mut slot.period, &mut slot.stat] {
                    self.files.close(file);
                }
            }
            entry.is_some_and(|entry| entry.is_live() || slot.last.is_some())
        });
    }

    /// Reads one cgroup's files and keeps its counters; gives its quota in cores.
    fn read_cgroup(&mut self, entry: &CgroupEntry) -> Result<Option<f64>, ReadError> {
        let slot = self.slots.entry(entry.id).or_default();
        self.files.enter(&self.mount_point, &entry.path);
        let read = match self.version {
            Version::V2 => read_v2(&mut self.files, slot)?,
            Version::V1 => read_v1(&mut self.files, slot)?,
        };
        match read {
            // Only another cgroup that took over the path since the tree was made is behind; it has another id.
            Some((_, stat))
                if slot.last.is_some_and(|last| stat.is_behind(&last))
                    && !self.files.is_in(entry.id) =>
            {
                Ok(None)
            }
            Some((quota, stat)) => {
                slot.last = Some(stat);
                Ok(Some(quota))
            }
            None => {
                // The counters of one that has just ended stay; one that lost its quota or its controller has none.
                if slot.last.is_some() && self.files.is_in(entry.id) {
                    slot.last = None;
                }
                Ok(None)
            }
        }
    }
}

fn read_v2(files: &mut FileReader, slot: &mut Slot) -> Result<Option<(f64, CpuStat)>, ReadError> {
    let Some(Some(quota)) = files.read(&mut slot.quota, "cpu.max", parse_cpu_max)? else {
        return Ok(None);
    };
    let stat = files.read(&mut slot.stat, "cpu.stat", parse_cpu_stat)?;
    Ok(stat.map(|stat| (quota, stat)))
}

fn read_v1(files: &mut FileReader, slot: &mut Slot) -> Result<Option<(f64, CpuStat)>, ReadError> {
    let quota_us = files.read(&mut slot.quota, "cpu.cfs_quota_us", parse_quota_us)?;
    let Some(Some(quota_us)) = quota_us else {
        return Ok(None);
    };
    let period_us = files.read(&mut slot.period, "cpu.cfs_period_us", parse_period_us)?;
    let stat = files.read(&mut slot.stat, "cpu.stat", parse_cpu_stat)?;
    let quota = period_us.map(|period_us| number(quota_us) / number(period_us));
    Ok(quota.zip(stat))
}

/// The samples of the four families.
struct Samples {
    periods: Vec<Sample>,
    throttled_periods: Vec<Sample>,
    throttled_seconds: Vec<Sample>,
    quota: Vec<Sample>,
}

impl Samples {
    fn with_capacity(n_cgroups: usize) -> Self {
        Self {
            periods: Vec::with_capacity(n_cgroups),
            throttled_periods: Vec::with_capacity(n_cgroups),
            throttled_seconds: Vec::with_capacity(n_cgroups),
            quota: Vec::with_capacity(n_cgroups),
        }
    }

    fn push_quota(&mut self, id: CgroupId, cores: Option<f64>) {
        self.quota.extend(cores.map(|cores| sample(id, cores)));
    }

    fn push_stat(&mut self, id: CgroupId, stat: CpuStat) {
        self.periods.push(sample(id, number(stat.n_periods)));
        self.throttled_periods.push(sample(id, number(stat.n_throttled)));
        self.throttled_seconds.push(sample(id, stat.throttled.as_secs_f64()));
    }

    fn into_families(self) -> Vec<Family> {
        vec![
            Family { desc: &PERIODS, samples: self.periods },
            Family { desc: &THROTTLED_PERIODS, samples: self.throttled_periods },
            Family { desc: &THROTTLED_SECONDS, samples: self.throttled_seconds },
            Family { desc: &QUOTA, samples: self.quota },
        ]
    }
}

fn sample(id: CgroupId, value: f64) -> Sample {
    Sample { subject: Subject::Cgroup(id), labels: OwnLabels::new(), value: Value::Number(value) }
}

#[cfg(test)]
mod tests {
    use std::{
        fs,
        os::unix::fs::MetadataExt as _,
        path::{Path, PathBuf},
        sync::Arc,
        time::{Duration, Instant},
    };

    use super::{CgroupCpu, METRICS, ReadError, Reading};
    use crate::{
        cgroup::{
            hierarchy::{Hierarchy, Version},
            testing::RealCgroup,
            tree::{CgroupEntry, CgroupTree, State},
            watch::{CgroupWatcher, DEAD_GRACE, MAX_CGROUPS},
        },
        metric::Value,
        subject::{CgroupId, Subject},
    };

    const STAT_V2: &str = "usage_usec 9\nnr_periods 40\nnr_throttled 8\nthrottled_usec 1500000\n";
    const STAT_V1: &str = "nr_periods 40\nnr_throttled 8\nthrottled_time 1500000000\n";

    /// A hierarchy in a temporary directory.
    struct Host {
        dir: tempfile::TempDir,
        version: Version,
    }

    impl Host {
        fn new(version: Version) -> Self {
            Self { dir: tempfile::tempdir().unwrap(), version }
        }

        fn write(&self, path: &str, files: &[(&str, &str)]) {
            let dir = self.dir.path().join(path);
            fs::create_dir_all(&dir).unwrap();
            for (name, text) in files {
                fs::write(dir.join(name), text).unwrap();
            }
        }

        fn id(&self, path: &str) -> CgroupId {
            CgroupId(fs::metadata(self.dir.path().join(path)).unwrap().ino())
        }

        fn reader(&self) -> CgroupCpu {
            let hierarchy = Hierarchy {
                version: self.version,
                mount_point: self.dir.path().to_owned(),
                mount_root: "/".to_owned(),
            };
            // A kept file of a common file system outlives its removal, unlike one of cgroupfs.
            CgroupCpu::keeping(&hierarchy, 0)
        }
    }

    fn tree(entries: &[(CgroupId, &str, State)]) -> CgroupTree {
        let entry =
            |&(id, path, state): &(_, &str, _)| CgroupEntry { id, path: Arc::from(path), state };
        entries.iter().map(entry).collect()
    }

    /// The values about one cgroup, in the order of the families; `None` where there is no sample.
    fn values(reading: &Reading, id: CgroupId) -> [Option<f64>; 4] {
        let descs: Vec<_> = reading.families.iter().map(|family| family.desc).collect();
        assert!(descs.iter().copied().eq(METRICS), "always all families");
        [0, 1, 2, 3].map(|idx| {
            let samples = &reading.families[idx].samples;
            let mut mine = samples.iter().filter(|it| it.subject == Subject::Cgroup(id));
            let value = mine.next().map(|sample| match sample.value {
                Value::Number(number) => number,
                Value::Histogram(_) => panic!("not a number"),
            });
            assert!(mine.next().is_none(), "one sample for each");
            value
        })
    }

    const NONE: [Option<f64>; 4] = [None; 4];

    fn all(periods: f64, throttled: f64, seconds: f64, cores: f64) -> [Option<f64>; 4] {
        [Some(periods), Some(throttled), Some(seconds), Some(cores)]
    }

    fn counters(periods: f64, throttled: f64, seconds: f64) -> [Option<f64>; 4] {
        [Some(periods), Some(throttled), Some(seconds), None]
    }

    #[test]
    fn gives_nothing_where_there_is_no_quota() {
        let v2 = Host::new(Version::V2);
        v2.write("limited", &[("cpu.max", "10000 100000\n"), ("cpu.stat", STAT_V2)]);
        v2.write("free", &[("cpu.max", "max 100000\n"), ("cpu.stat", STAT_V2)]);
        v2.write("without-controller", &[("cpu.stat", "usage_usec 9\n")]);
        let v1 = Host::new(Version::V1);
        let period = ("cpu.cfs_period_us", "100000\n");
        let stat = ("cpu.stat", STAT_V1);
        v1.write("limited", &[("cpu.cfs_quota_us", "10000\n"), period, stat]);
        v1.write("free", &[("cpu.cfs_quota_us", "-1\n"), period, stat]);
        v1.write("without-controller", &[]);
        for host in [v2, v1] {
            let entries = ["limited", "free", "without-controller"]
                .map(|name| (host.id(name), name, State::Live));
            let reading = host.reader().read(&tree(&entries)).unwrap();
            assert_eq!(values(&reading, entries[0].0), all(40.0, 8.0, 1.5, 0.1));
            assert_eq!(values(&reading, entries[1].0), NONE);
            assert_eq!(values(&reading, entries[2].0), NONE);
            assert_eq!(reading.n_failed, 0);
        }
    }

    #[test]
    fn one_bad_file_costs_one_cgroup() {
        let host = Host::new(Version::V2);
        host.write("good", &[("cpu.max", "10000 100000\n"), ("cpu.stat", STAT_V2)]);
        host.write("bad", &[("cpu.max", "10000 100000\n"), ("cpu.stat", "nr_periods x\n")]);
        host.write("worse", &[("cpu.max", &"9".repeat(5000))]);
        let entries = ["bad", "good", "worse"].map(|name| (host.id(name), name, State::Live));
        let tree_of_all = tree(&entries);
        let reading = host.reader().read(&tree_of_all).unwrap();
        assert_eq!(values(&reading, entries[0].0), NONE);
        assert_eq!(values(&reading, entries[1].0), all(40.0, 8.0, 1.5, 0.1));
        assert_eq!(values(&reading, entries[2].0), NONE);
        assert_eq!(reading.n_failed, 2);

        // Where nothing can be read, there are no families at all.
        let error = host.reader().read(&tree(&entries[..1])).unwrap_err();
        let cause = std::error::Error::source(&error).unwrap().to_string();
        assert!(matches!(error, ReadError::Parse { .. }));
        assert!(error.to_string().ends_with("/bad/cpu.stat"), "{error}");
        assert!(cause.contains("nr_periods x"), "{cause}");
    }

    #[test]
    fn the_dead_keep_their_counters_until_they_are_freed() {
        let host = Host::new(Version::V2);
        host.write("a", &[("cpu.max", "10000 100000\n"), ("cpu.stat", STAT_V2)]);
        host.write("b", &[("cpu.max", "max 100000\n"), ("cpu.stat", STAT_V2)]);
        let (a, b) = (host.id("a"), host.id("b"));
        let mut reader = host.reader();
        let live = tree(&[(a, "/a", State::Live), (b, "/b", State::Live)]);
        reader.read(&live).unwrap();

        // Gone, but the tree does not know it yet.
        fs::remove_dir_all(host.dir.path().join("a")).unwrap();
        let kept = counters(40.0, 8.0, 1.5);
        assert_eq!(values(&reader.read(&live).unwrap(), a), kept);
        assert_eq!(values(&reader.read(&live).unwrap(), a), kept);

        let dead = State::Dead { since: Instant::now() };
        let known = tree(&[(a, "/a", dead), (b, "/b", State::Live)]);
        assert_eq!(values(&reader.read(&known).unwrap(), a), kept);
        let freed = tree(&[(b, "/b", State::Live)]);
        assert_eq!(values(&reader.read(&freed).unwrap(), a), NONE);
        assert_eq!(reader.slots.len(), 1);
    }

    #[test]
    fn a_quota_that_was_lifted_takes_its_series_with_it() {
        let host = Host::new(Version::V2);
        let files = [("cpu.max", "10000 100000\n"), ("cpu.stat", STAT_V2)];
        let mut reader = host.reader();
        for lifted in ["max 100000\n", ""] {
            host.write("a", &files);
            let a = host.id("a");
            let live = tree(&[(a, "/a", State::Live)]);
            assert_eq!(values(&reader.read(&live).unwrap(), a), all(40.0, 8.0, 1.5, 0.1));
            // By its own file, or with the whole controller.
            if lifted.is_empty() {
                fs::remove_file(host.dir.path().join("a/cpu.max")).unwrap();
            } else {
                host.write("a", &[("cpu.max", lifted)]);
            }
            assert_eq!(values(&reader.read(&live).unwrap(), a), NONE);
        }
    }

    #[test]
    fn a_successor_at_the_same_path_lends_no_numbers() {
        let host = Host::new(Version::V2);
        host.write("a", &[("cpu.max", "10000 100000\n"), ("cpu.stat", STAT_V2)]);
        let a = host.id("a");
        let live = tree(&[(a, "/a", State::Live)]);
        let mut reader = host.reader();
        reader.read(&live).unwrap();
        fs::rename(host.dir.path().join("a"), host.dir.path().join("old")).unwrap();
        let fresh = STAT_V2.replace("40", "1");
        host.write("a", &[("cpu.max", "10000 100000\n"), ("cpu.stat", &fresh)]);
        assert_eq!(values(&reader.read(&live).unwrap(), a), counters(40.0, 8.0, 1.5));
    }

    #[test]
    fn reads_real_cgroups() {
        let Some(cgroup) = RealCgroup::make("cpu") else {
            return;
        };
        let limit = |dir: &Path| match cgroup.hierarchy.version {
            Version::V1 => fs::write(dir.join("cpu.cfs_quota_us"), "25000"),
            Version::V2 => fs::write(dir.join("cpu.max"), "25000 100000"),
        };
        let dirs: Vec<PathBuf> =
            ["limited", "free"].iter().map(|name| cgroup.dir.join(name)).collect();
        for dir in &dirs {
            fs::create_dir(dir).unwrap();
        }
        limit(&dirs[0]).unwrap();
        let ids = [0, 1].map(|idx| CgroupId(fs::metadata(&dirs[idx]).unwrap().ino()));
        let root = cgroup.hierarchy.mount_point.clone();
        let mut watcher =
            CgroupWatcher::start(root, DEAD_GRACE, MAX_CGROUPS, Instant::now()).unwrap();
        // With files kept, without, and with some.
        let mut readers = [100, 0, 1].map(|max| CgroupCpu::keeping(&cgroup.hierarchy, max));
        for reader in &mut readers {
            for _ in 0..2 {
                let reading = reader.read(watcher.tree()).unwrap();
                assert_eq!(values(&reading, ids[0]), all(0.0, 0.0, 0.0, 0.25));
                assert_eq!(values(&reading, ids[1]), NONE);
                assert_eq!(reading.n_failed, 0);
            }
        }

        fs::remove_dir(&dirs[0]).unwrap();
        let ended = counters(0.0, 0.0, 0.0);
        for reader in &mut readers {
            assert_eq!(values(&reader.read(watcher.tree()).unwrap(), ids[0]), ended, "not noticed");
        }
        let deadline = Instant::now() + Duration::from_secs(5);
        while watcher.refresh(Instant::now()).tree.get(ids[0]).unwrap().is_live() {
            assert!(Instant::now() < deadline, "its end was not noticed");
        }
        for reader in &mut readers {
            assert_eq!(values(&reader.read(watcher.tree()).unwrap(), ids[0]), ended);
        }
    }
}
