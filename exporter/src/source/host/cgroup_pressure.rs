//! Pressure stall information: how long tasks of a cgroup waited for CPU, memory or IO, from its `cpu.pressure`,
//! `memory.pressure` and `io.pressure`.
//!
//! Only cgroup v2 has these files, and only where the kernel keeps the account: none with `psi=0`, without
//! `CONFIG_PSI`, or below a `cgroup.pressure` of 0. `some` is the time in which at least one task waited, `full` that in
//! which all of them did. `cpu.pressure` has a line `full` since 5.13; of the machine as a whole it always says 0.
//! The kernel counts a cgroup with all cgroups below it, and so do these numbers. The averages over 10, 60 and 300 s are
//! left to queries.

use std::{fs::File, iter, time::Duration};

use crate::{
    cgroup::hierarchy::Version,
    metric::{Desc, Family, Kind, Sample, Value},
    source::host::{
        cpu_files::ParseError,
        kept_files::{FileReader, ReadError},
        per_cgroup::{Account, PerCgroup},
    },
    subject::{CgroupId, Subject},
};

/// The one family.
pub(super) const METRICS: &[Desc] = &[PRESSURE];

const PRESSURE: Desc = Desc {
    name: "podmeter_pressure_seconds_total",
    help: "Time in which tasks of the cgroup or of cgroups below it waited for the resource: at least one of them \
           (some), or all that were not idle (full).",
    kind: Kind::Counter,
    unit: "seconds",
    labels: &["resource", "kind"],
    origin: "total in cpu.pressure, memory.pressure, io.pressure (cgroup v2)",
};

/// Reads the pressure files of all cgroups of one hierarchy.
pub(super) type CgroupPressure = PerCgroup<PressureFiles>;

/// What is waited for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Resource {
    Cpu,
    Memory,
    Io,
}

impl Resource {
    const ALL: [Self; 3] = [Self::Cpu, Self::Memory, Self::Io];

    fn as_str(self) -> &'static str {
        match self {
            Self::Cpu => "cpu",
            Self::Memory => "memory",
            Self::Io => "io",
        }
    }

    fn file(self) -> &'static str {
        match self {
            Self::Cpu => "cpu.pressure",
            Self::Memory => "memory.pressure",
            Self::Io => "io.pressure",
        }
    }
}

/// What one pressure file says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Pressure {
    /// Time in which at least one task waited.
    pub(super) some: Duration,
    /// Time in which all waited; none where the kernel does not say it.
    pub(super) full: Option<Duration>,
}

impl Pressure {
    /// Whether any of the counters is lower than it was.
    fn is_behind(self, last: Self) -> bool {
        self.some < last.some || self.full < last.full
    }
}

/// What is kept about one cgroup: the file of each resource and what it said last.
#[derive(Debug)]
pub(super) struct PressureFiles([(Resource, Option<File>, Option<Pressure>); 3]);

impl Default for PressureFiles {
    fn default() -> Self {
        Self(Resource::ALL.map(|resource| (resource, None, None)))
    }
}

impl Account for PressureFiles {
    type Samples = Vec<Sample>;

    const IF_NONE: Option<&'static str> = Some(
        "no cgroup has pressure files: the kernel has no CONFIG_PSI, or was booted with psi=0",
    );

    fn read(
        &mut self,
        files: &mut FileReader,
        _version: Version,
        id: CgroupId,
    ) -> Result<(), ReadError> {
        for (resource, file, last) in &mut self.0 {
            match files.read(file, resource.file(), parse_pressure)? {
                // Only another cgroup that took over the path since the tree was made is behind; it has another id.
                Some(now) if last.is_some_and(|last| now.is_behind(last)) && !files.is_in(id) => {}
                Some(now) => *last = Some(now),
                None => {
                    // What one that has just ended said stays; one whose account was switched off has none.
                    if last.is_some() && files.is_in(id) {
                        *last = None;
                    }
                }
            }
        }
        Ok(())
    }

    fn end(&mut self, files: &mut FileReader) {
        for (_, file, _) in &mut self.0 {
            files.close(file);
        }
    }

    fn has_counters(&self) -> bool {
        self.0.iter().any(|(_, _, last)| last.is_some())
    }

    fn give(&self, id: CgroupId, samples: &mut Vec<Sample>) {
        for (resource, _, last) in &self.0 {
            let sample = |(kind, stalled): (&'static str, Duration)| Sample {
                subject: Subject::Subtree(id),
                labels: vec![("resource", resource.as_str().into()), ("kind", kind.into())],
                value: Value::Number(stalled.as_secs_f64()),
            };
            if let Some(Pressure { some, full }) = *last {
                let full = full.map(|full| ("full", full));
                samples.extend(iter::once(("some", some)).chain(full).map(sample));
            }
        }
    }

    fn families(samples: Vec<Sample>) -> Vec<Family> {
        vec![Family { desc: &PRESSURE, samples }]
    }
}

/// Reads a pressure file; every kernel gives `some`.
pub(super) fn parse_pressure(text: &str) -> Result<Pressure, ParseError> {
    let (mut some, mut full) = (None, None);
    for line in text.lines() {
        let total = || total(line).ok_or_else(|| ParseError::Number { line: line.to_owned() });
        match line.split_once(' ') {
            Some(("some", _)) => some = Some(total()?),
            Some(("full", _)) => full = Some(total()?),
            _ => {}
        }
    }
    Ok(Pressure { some: some.ok_or(ParseError::Missing { key: "some" })?, full })
}

/// Microseconds, at the end of the line.
fn total(line: &str) -> Option<Duration> {
    let value = line.split(' ').find_map(|field| field.strip_prefix("total="))?;
    Some(Duration::from_micros(value.parse().ok()?))
}

#[cfg(test)]
mod tests {
    use std::{
        fmt::Write as _, fs, os::unix::fs::MetadataExt as _, path::Path, sync::Arc, time::Instant,
    };

    use expect_test::{Expect, expect};

    use super::{CgroupPressure, parse_pressure};
    use crate::{
        cgroup::{
            hierarchy::{Hierarchy, Version},
            tree::{CgroupEntry, CgroupTree, State},
        },
        metric::Value,
        source::host::kept_files::Room,
        subject::{CgroupId, Subject},
    };

    const CPU_5_10: &str = "some avg10=0.00 avg60=0.00 avg300=0.00 total=1500000\n";
    const CPU: &str = "some avg10=73.20 avg60=34.45 avg300=13.23 total=57765678\n\
        full avg10=0.00 avg60=0.00 avg300=0.00 total=12\n";

    #[test]
    fn parses_what_kernels_give() {
        let check = |text: &str, expected: Expect| {
            expected.assert_eq(&match parse_pressure(text) {
                Ok(pressure) => format!("{:?} {:?}", pressure.some, pressure.full),
                Err(error) => error.to_string(),
            });
        };
        check(CPU_5_10, expect!["1.5s None"]);
        check(CPU, expect!["57.765678s Some(12µs)"]);
        // What a later kernel may add.
        check("some total=1 new=2\nother total=x\n", expect!["1µs None"]);
        check("full total=1\n", expect!["no line some"]);
        check("", expect!["no line some"]);
        check("some total=-1\n", expect![[r#"line "some total=-1" has no valid number"#]]);
        check("some avg10=1\n", expect![[r#"line "some avg10=1" has no valid number"#]]);
    }

    fn id(dir: &Path) -> CgroupId {
        CgroupId(fs::metadata(dir).unwrap().ino())
    }

    fn tree(dir: &Path, state: State) -> CgroupTree {
        [CgroupEntry { id: id(dir), path: Arc::from("/a"), state }].into_iter().collect()
    }

    /// `resource kind seconds` of each sample.
    fn lines(reader: &mut CgroupPressure, tree: &CgroupTree) -> String {
        let reading = reader.read(tree).unwrap();
        assert_eq!((reading.families.len(), reading.n_failed), (1, 0));
        let mut text = String::new();
        for sample in &reading.families[0].samples {
            assert!(matches!(sample.subject, Subject::Subtree(_)));
            let Value::Number(seconds) = sample.value else { panic!("not a number") };
            let [(_, resource), (_, kind)] = &sample.labels[..] else { panic!("two labels") };
            writeln!(text, "{resource} {kind} {seconds}").unwrap();
        }
        text
    }

    #[test]
    fn gives_what_there_is_and_keeps_it_to_the_end() {
        let host = tempfile::tempdir().unwrap();
        let dir = host.path().join("a");
        fs::create_dir(&dir).unwrap();
        let hierarchy = Hierarchy {
            version: Version::V2,
            mount_point: host.path().to_owned(),
            mount_root: "/".to_owned(),
        };
        let write = |name: &str, text: &str| fs::write(dir.join(name), text).unwrap();
        // A kept file of a common file system outlives its removal, unlike one of cgroupfs.
        let mut reader = CgroupPressure::new(&hierarchy, Room::of(0));
        let live = tree(&dir, State::Live);
        expect![""].assert_eq(&lines(&mut reader, &live));

        write("cpu.pressure", CPU_5_10);
        write("memory.pressure", CPU);
        expect![[r#"
            cpu some 1.5
            memory some 57.765678
            memory full 0.000012
        "#]]
        .assert_eq(&lines(&mut reader, &live));

        // The account of one resource is switched off.
        fs::remove_file(dir.join("memory.pressure")).unwrap();
        write("io.pressure", CPU_5_10);
        let last = expect![[r#"
            cpu some 1.5
            io some 1.5
        "#]];
        last.assert_eq(&lines(&mut reader, &live));

        // Another one has taken its place, which the tree does not know yet.
        fs::rename(&dir, host.path().join("old")).unwrap();
        fs::create_dir(&dir).unwrap();
        write("cpu.pressure", "some total=1\n");
        last.assert_eq(&lines(&mut reader, &live));

        let known = [CgroupEntry {
            id: id(&host.path().join("old")),
            path: Arc::from("/a"),
            state: State::Dead { since: Instant::now() },
        }];
        last.assert_eq(&lines(&mut reader, &known.into_iter().collect()));
        expect![""].assert_eq(&lines(&mut reader, &CgroupTree::default()));
        assert_eq!(reader.n_kept(), 0);
    }
}
