//! `block_io`: how long block requests waited and took, what they moved, and which failed, per cgroup, disk and
//! operation.
//!
//! The numbers come from the program of the same name in exporter-ebpf, which gives hooks, minimum kernel and cost.

use std::{borrow::Cow, collections::BTreeMap, fs, path::Path};

use aya::maps::MapError;
use podmeter_common::{
    block_io::{BOUNDS_NS, Device, IoCounts, IoKey, MAX_SERIES, Operation},
    skip::Skip,
};

use super::{
    btf::{BtfError, KernelTypes},
    def::{Globals, HookDef, HookKind, KernelMemory, ProbeDef, ProgramDef, Switch, no_names},
    host::ProbeHost,
    maps::{Reader, TableDef, bounds_seconds, seconds},
    owner,
};
use crate::{
    metric::{Desc, Family, Kind, OwnLabels, Sample, Value},
    subject::Subject,
};

pub(super) const PROBE: ProbeDef = ProbeDef {
    name: "block_io",
    object: aya::include_bytes_aligned!(concat!(env!("OUT_DIR"), "/block_io")),
    metrics: &[LATENCY, QUEUE, BYTES, ERRORS],
    instead: "what each cgroup read and wrote, from cAdvisor (container_fs_reads_bytes_total and its like), without \
              durations",
    switch: Switch::On,
    // In each, the ends before the beginnings: what is noted as under way must be seen to end.
    hooks: &[
        HookDef {
            kind: HookKind::BtfTracepoint,
            programs: &[
                ProgramDef::required("block_rq_complete", "block_rq_complete"),
                ProgramDef::optional("block_rq_merge", "block_rq_merge"),
                ProgramDef::required("block_rq_requeue", "block_rq_requeue"),
                ProgramDef::required("block_rq_issue", "block_rq_issue"),
                ProgramDef::required("block_rq_insert", "block_rq_insert"),
            ],
            memory: KernelMemory::Typed,
            globals,
        },
        HookDef {
            kind: HookKind::RawTracepoint,
            programs: &[
                ProgramDef::required("raw_block_rq_complete", "block_rq_complete"),
                ProgramDef::optional("raw_block_rq_merge", "block_rq_merge"),
                ProgramDef::required("raw_block_rq_requeue", "block_rq_requeue"),
                ProgramDef::required("raw_block_rq_issue", "block_rq_issue"),
                ProgramDef::required("raw_block_rq_insert", "block_rq_insert"),
            ],
            memory: KernelMemory::Read,
            globals,
        },
    ],
    tables: &[IO],
    skips: &[Skip::Folded, Skip::Lost, Skip::InFlightFull, Skip::NoEntry, Skip::NoOwner],
    names: no_names,
    read,
};

const IO: TableDef = TableDef::new::<IoKey, IoCounts>("IO", MAX_SERIES).of(Subject::IoCgroup);

const LABELS: &[&str] = &["device", "operation"];

const LATENCY: Desc = Desc {
    name: "podmeter_io_latency_seconds",
    help: "How long the driver and the disk took for each block request of the cgroup, from the last issue to the end.",
    kind: Kind::Histogram,
    unit: "seconds",
    labels: LABELS,
    origin: "block_rq_issue to block_rq_complete; the count is requests, where io.stat's rios, wios and dios are bios, \
             of which one request may have several, and one bio several requests",
};

const QUEUE: Desc = Desc {
    name: "podmeter_io_queue_seconds",
    help: "How long each block request of the cgroup waited in the kernel's queue; one that went straight to the driver \
           is not in it.",
    kind: Kind::Histogram,
    unit: "seconds",
    labels: LABELS,
    origin: "block_rq_insert to the last block_rq_issue",
};

const BYTES: Desc = Desc {
    name: "podmeter_io_bytes_total",
    help: "Bytes of block requests of the cgroup that completed, of failed ones too.",
    kind: Kind::Counter,
    unit: "bytes",
    labels: LABELS,
    origin: "block_rq_complete; agrees with io.stat's rbytes, wbytes and dbytes once all requests have completed",
};

const ERRORS: Desc = Desc {
    name: "podmeter_io_errors_total",
    help: "Block requests of the cgroup that failed.",
    kind: Kind::Counter,
    unit: "",
    labels: LABELS,
    origin: "block_rq_complete, by its status",
};

/// The bounds of both histograms in seconds.
static BOUNDS_SECONDS: [f64; BOUNDS_NS.len()] = bounds_seconds(BOUNDS_NS);

fn globals(types: &KernelTypes, _host: &ProbeHost) -> Result<Globals, BtfError> {
    let request_argument = types.tracepoint_argument("block_rq_insert", "request")?;
    for name in ["block_rq_insert", "block_rq_issue", "block_rq_requeue"] {
        let argument = types.tracepoint_argument(name, "request")?;
        if argument > 1 || argument != request_argument {
            return Err(BtfError::Prototype { name, expected: "request" });
        }
    }
    let name = "block_rq_complete";
    let is_known = types.tracepoint_argument(name, "request")? == 0
        && types.n_tracepoint_arguments(name)? == 3;
    if !is_known {
        return Err(BtfError::Prototype { name, expected: "request" });
    }
    let is_in_request = types.has_field("request", "rq_disk");
    let disk = if is_in_request {
        types.offset("request", "rq_disk", 8)?
    } else {
        types.offset("request_queue", "disk", 8)?
    };
    let mut globals = owner::cgroup_globals(types)?;
    globals.extend([
        ("REQUEST_ARGUMENT", request_argument),
        ("REQUEST_CMD_FLAGS", types.offset("request", "cmd_flags", 4)?),
        ("REQUEST_DATA_LEN", types.offset("request", "__data_len", 4)?),
        ("REQUEST_BIO", types.offset("request", "bio", 8)?),
        ("REQUEST_QUEUE", types.offset("request", "q", 8)?),
        ("DISK", disk),
        ("DISK_IS_IN_QUEUE", u32::from(!is_in_request)),
        ("DISK_MAJOR", types.offset("gendisk", "major", 4)?),
        ("DISK_MINOR", types.offset("gendisk", "first_minor", 4)?),
        ("BIO_BLKG", types.offset("bio", "bi_blkg", 8)?),
        ("BLKG_BLKCG", types.offset("blkcg_gq", "blkcg", 8)?),
        ("BLKCG_CGROUP", types.offset("blkcg", "css.cgroup", 8)?),
    ]);
    Ok(globals)
}

fn read(maps: &mut Reader<'_>) -> Result<Vec<Family>, MapError> {
    let entries = maps.entries::<IoKey, IoCounts>(&IO)?;
    // One look per disk and collection, because numbers are used again: there are no more disks than entries.
    let mut names = BTreeMap::new();
    let [mut latency, mut queue, mut bytes, mut errors] = [const { Vec::new() }; 4];
    for (key, counts) in &entries {
        let name = names.entry(key.device).or_insert_with(|| name(key.device, &maps.paths.sys));
        let sample = |value| Sample {
            subject: IO.subject(key.cgroup),
            labels: labels(name.as_deref(), key.operation),
            value,
        };
        for (samples, durations) in [(&mut latency, &counts.latency), (&mut queue, &counts.queue)] {
            let histogram = seconds(durations, &BOUNDS_SECONDS);
            if histogram.count() > 0 {
                samples.push(sample(Value::Histogram(histogram)));
            }
        }
        // A flush moves nothing.
        if key.operation != Operation::Flush as u32 {
            bytes.push(sample(number(counts.n_bytes)));
        }
        errors.push(sample(number(counts.n_errors)));
    }
    Ok(vec![
        Family { desc: &LATENCY, samples: latency },
        Family { desc: &QUEUE, samples: queue },
        Family { desc: &BYTES, samples: bytes },
        Family { desc: &ERRORS, samples: errors },
    ])
}

#[expect(clippy::cast_precision_loss, reason = "8 PiB are exact to the byte")]
fn number(count: u64) -> Value {
    Value::Number(count as f64)
}

/// The remainder of all that found no room is of no disk.
fn labels(device: Option<&str>, operation: u32) -> OwnLabels {
    let mut labels = OwnLabels::new();
    labels.extend(device.map(|name| ("device", Cow::Owned(name.to_owned()))));
    let known = Operation::ALL.into_iter().find(|known| *known as u32 == operation);
    labels.extend(known.map(|known| ("operation", known.as_str().into())));
    labels
}

/// The kernel's name of a disk, or its numbers where it is gone; none for no disk.
fn name(device: Device, sys: &Path) -> Option<String> {
    if device == Device::NONE {
        return None;
    }
    let numbers = format!("{}:{}", device.major(), device.minor());
    let target = fs::read_link(sys.join("dev/block").join(&numbers)).ok();
    let name = target.as_deref().and_then(Path::file_name).and_then(|name| name.to_str());
    Some(name.map_or(numbers, str::to_owned))
}

#[cfg(test)]
mod tests {
    use std::{fs, os::unix::fs::symlink};

    use podmeter_common::block_io::{Device, Operation};

    use super::{BOUNDS_SECONDS, labels, name};

    #[test]
    fn bounds_are_the_decimal_numbers_that_a_reader_expects() {
        let text: Vec<String> = BOUNDS_SECONDS.iter().map(f64::to_string).collect();
        let expected =
            "0.00005 0.0001 0.00025 0.0005 0.001 0.0025 0.005 0.01 0.025 0.05 0.1 0.25 1 5";
        assert_eq!(text.join(" "), expected);
    }

    #[test]
    fn a_disk_has_its_name_or_its_numbers() {
        let sys = tempfile::tempdir().unwrap();
        fs::create_dir_all(sys.path().join("dev/block")).unwrap();
        let target = "../../devices/pci0000:00/0000:00:04.0/virtio1/block/vda";
        symlink(target, sys.path().join("dev/block/254:0")).unwrap();
        let check = |major, minor, expected: Option<&str>| {
            assert_eq!(name(Device::new(major, minor), sys.path()).as_deref(), expected);
        };
        check(254, 0, Some("vda"));
        check(8, 16, Some("8:16"));
        check(0, 0, None);
    }

    #[test]
    fn the_remainder_of_all_disks_has_no_device() {
        let check = |device, operation, expected: &[(&str, &str)]| {
            let labels = labels(device, operation);
            let labels: Vec<_> = labels.iter().map(|(name, value)| (*name, &**value)).collect();
            assert_eq!(labels, expected);
        };
        let discard = Operation::Discard as u32;
        check(Some("sda"), discard, &[("device", "sda"), ("operation", "discard")]);
        check(None, 0, &[("operation", "read")]);
    }
}
