//! CFS quotas, and what the kernel counts about them, from `cpu.max` and `cpu.stat` (v2) or `cpu.cfs_quota_us`,
//! `cpu.cfs_period_us` and `cpu.stat` (v1) of every cgroup.
//!
//! A cgroup without a quota has none of these series, so that "no quota" and "never throttled" differ. The counters of
//! a cgroup that ended stay at their last values for as long as the tree knows it; its quota ends with it. The numbers
//! are those of a cgroup's own quota: neither its parents' nor those of the cgroups below.

use std::fs::File;

use crate::{
    cgroup::hierarchy::Version,
    metric::{Desc, Family, Kind, OwnLabels, Sample, Value},
    source::host::{
        cpu_files::{
            CpuStat, number, parse_cpu_max, parse_cpu_stat, parse_period_us, parse_quota_us,
        },
        kept_files::{FileReader, ReadError},
        per_cgroup::{Account, PerCgroup},
    },
    subject::{CgroupId, Subject},
};

/// The families, in the order in which they are given.
pub(super) const METRICS: &[Desc] = &[PERIODS, THROTTLED_PERIODS, THROTTLED_SECONDS, QUOTA];

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

/// Reads the files of all cgroups of one hierarchy.
pub(super) type CgroupCpu = PerCgroup<CpuFiles>;

/// What is kept about one cgroup.
#[derive(Debug, Default)]
pub(super) struct CpuFiles {
    /// Its counters, if it has or had a quota.
    last: Option<CpuStat>,
    /// What it may use at present.
    cores: Option<f64>,
    quota: Option<File>,
    period: Option<File>,
    stat: Option<File>,
}

impl Account for CpuFiles {
    type Samples = Samples;

    const IF_NONE: Option<&'static str> = None;

    fn read(
        &mut self,
        files: &mut FileReader,
        version: Version,
        id: CgroupId,
    ) -> Result<(), ReadError> {
        self.cores = None;
        let read = match version {
            Version::V2 => read_v2(files, self)?,
            Version::V1 => read_v1(files, self)?,
        };
        match read {
            // Only another cgroup that took over the path since the tree was made is behind; it has another id.
            Some((_, stat))
                if self.last.is_some_and(|last| stat.is_behind(&last)) && !files.is_in(id) => {}
            Some((cores, stat)) => {
                self.last = Some(stat);
                self.cores = Some(cores);
            }
            None => {
                // The counters of one that has just ended stay; one that lost its quota or its controller has none.
                if self.last.is_some() && files.is_in(id) {
                    self.last = None;
                }
            }
        }
        Ok(())
    }

    fn end(&mut self, files: &mut FileReader) {
        self.cores = None;
        for file in [&mut self.quota, &mut self.period, &mut self.stat] {
            files.close(file);
        }
    }

    fn has_counters(&self) -> bool {
        self.last.is_some()
    }

    fn give(&self, id: CgroupId, samples: &mut Samples) {
        samples.quota.extend(self.cores.map(|cores| sample(id, cores)));
        if let Some(stat) = self.last {
            samples.periods.push(sample(id, number(stat.n_periods)));
            samples.throttled_periods.push(sample(id, number(stat.n_throttled)));
            samples.throttled_seconds.push(sample(id, stat.throttled.as_secs_f64()));
        }
    }

    fn families(samples: Samples) -> Vec<Family> {
        vec![
            Family { desc: &PERIODS, samples: samples.periods },
            Family { desc: &THROTTLED_PERIODS, samples: samples.throttled_periods },
            Family { desc: &THROTTLED_SECONDS, samples: samples.throttled_seconds },
            Family { desc: &QUOTA, samples: samples.quota },
        ]
    }
}

fn read_v2(
    files: &mut FileReader,
    kept: &mut CpuFiles,
) -> Result<Option<(f64, CpuStat)>, ReadError> {
    let Some(Some(quota)) = files.read(&mut kept.quota, "cpu.max", parse_cpu_max)? else {
        return Ok(None);
    };
    let stat = files.read(&mut kept.stat, "cpu.stat", parse_cpu_stat)?;
    Ok(stat.map(|stat| (quota, stat)))
}

fn read_v1(
    files: &mut FileReader,
    kept: &mut CpuFiles,
) -> Result<Option<(f64, CpuStat)>, ReadError> {
    let quota_us = files.read(&mut kept.quota, "cpu.cfs_quota_us", parse_quota_us)?;
    let Some(Some(quota_us)) = quota_us else {
        return Ok(None);
    };
    let period_us = files.read(&mut kept.period, "cpu.cfs_period_us", parse_period_us)?;
    let stat = files.read(&mut kept.stat, "cpu.stat", parse_cpu_stat)?;
    let quota = period_us.map(|period_us| number(quota_us) / number(period_us));
    Ok(quota.zip(stat))
}

/// The samples of the four families.
#[derive(Debug, Default)]
pub(super) struct Samples {
    periods: Vec<Sample>,
    throttled_periods: Vec<Sample>,
    throttled_seconds: Vec<Sample>,
    quota: Vec<Sample>,
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

    use super::{CgroupCpu, METRICS, ReadError};
    use crate::{
        cgroup::{
            hierarchy::{Hierarchy, Version},
            testing::RealCgroup,
            tree::{CgroupEntry, CgroupTree, State},
            watch::{CgroupWatcher, DEAD_GRACE, MAX_CGROUPS},
        },
        metric::Value,
        source::host::{kept_files::Room, per_cgroup::Reading},
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
            CgroupCpu::new(&hierarchy, Room::of(0))
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
        assert_eq!(reader.n_kept(), 1);
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
        let mut readers = [100, 0, 1].map(|max| CgroupCpu::new(&cgroup.hierarchy, Room::of(max)));
        for reader in &mut readers {
            for _ in 0..2 {
                let reading = reader.read(watcher.tree()).unwrap();
                let limited = values(&reading, ids[0]);
                assert!(AT_REST.map(|n| all(n, 0.0, 0.0, 0.25)).contains(&limited), "{limited:?}");
                assert_eq!(values(&reading, ids[1]), NONE);
                assert_eq!(reading.n_failed, 0);
            }
        }

        fs::remove_dir(&dirs[0]).unwrap();
        let ended = AT_REST.map(|n| counters(n, 0.0, 0.0));
        for reader in &mut readers {
            let values = values(&reader.read(watcher.tree()).unwrap(), ids[0]);
            assert!(ended.contains(&values), "not noticed: {values:?}");
        }
        let deadline = Instant::now() + Duration::from_secs(5);
        while watcher.refresh(Instant::now()).tree.get(ids[0]).unwrap().is_live() {
            assert!(Instant::now() < deadline, "its end was not noticed");
        }
        for reader in &mut readers {
            let values = values(&reader.read(watcher.tree()).unwrap(), ids[0]);
            assert!(ended.contains(&values), "{values:?}");
        }
    }

    /// Periods of a cgroup without a task: its timer runs out at most twice after the quota was set.
    const AT_REST: [f64; 3] = [0.0, 1.0, 2.0];
}
