//! Which workload causes the events of which probe, and what an event of it may cost.

use anyhow::{Context as _, Result};

use super::workload::{self, Prepare};
use crate::bench::load::Kind;

/// How the events of a probe are had.
#[derive(Debug)]
pub(super) enum Load {
    /// By workloads that cause them as fast as the machine can.
    Storms(&'static [Storm]),
    /// Not at all: there is nothing that happens often, and why.
    Rare(&'static str),
}

/// A workload and its event.
#[derive(Debug)]
pub(super) struct Storm {
    /// The workload, for people.
    pub(super) name: &'static str,
    /// What it is counted in, for people.
    pub(super) unit: &'static str,
    pub(super) prepare: Prepare,
    pub(super) event: Event,
}

/// What the cost is said of.
#[derive(Debug)]
pub(super) struct Event {
    /// What it is called.
    pub(super) name: &'static str,
    pub(super) is: Count,
    /// The most that one may cost, if a limit was set.
    pub(super) target_ns: Option<u32>,
}

/// What one event is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Count {
    /// One run of any of the probe's programs.
    Run,
    /// What all of them together do about one thing; the one that runs most often runs once for each.
    Whole,
    /// What a family of the probe counts, where one run may handle many.
    Counted {
        /// The family.
        family: &'static str,
        /// What one run handles at once.
        run: &'static str,
    },
}

const PACKET: Event = Event { name: "packet", is: Count::Run, target_ns: Some(150) };
/// A run handles a whole buffer, which holds dozens of packets of the wire.
const WIRE_PACKET: Event = Event {
    name: "packet",
    is: Count::Counted { family: "podmeter_network_packets_total", run: "buffer" },
    target_ns: Some(150),
};
const REQUEST: Event = Event { name: "request", is: Count::Whole, target_ns: Some(400) };
const SWITCH: Event = Event { name: "switch", is: Count::Whole, target_ns: Some(150) };
const TRACEPOINT: Event = Event { name: "run", is: Count::Run, target_ns: None };

const ASSIGNED: &[(&str, Load)] = &[
    (
        "block_io",
        Load::Storms(&[Storm {
            name: "fio, random reads of 4 KiB",
            unit: "reads",
            prepare: workload::reads,
            event: REQUEST,
        }]),
    ),
    (
        "cpu_throttle",
        Load::Rare("at the default period of 100 ms ten events per second, CPU and cgroup"),
    ),
    (
        "drops",
        Load::Storms(&[Storm {
            name: "datagrams to a closed port",
            unit: "datagrams",
            prepare: |place| workload::own(place, Kind::ClosedPort),
            event: TRACEPOINT,
        }]),
    ),
    (
        "network",
        Load::Storms(&[
            Storm {
                name: "iperf3, UDP of 64 bytes",
                unit: "datagrams",
                prepare: workload::datagrams,
                event: PACKET,
            },
            Storm {
                name: "iperf3, one TCP stream",
                unit: "Mbit",
                prepare: workload::stream,
                event: WIRE_PACKET,
            },
        ]),
    ),
    ("oom", Load::Rare("each event ends a process")),
    (
        "run_queue",
        Load::Storms(&[Storm {
            name: "two processes and a pipe",
            unit: "switches",
            prepare: |place| workload::own(place, Kind::Switches),
            event: SWITCH,
        }]),
    ),
    (
        "tcp",
        Load::Storms(&[Storm {
            name: "connections, closed at once",
            unit: "connections",
            prepare: |place| workload::own(place, Kind::Connections),
            event: TRACEPOINT,
        }]),
    ),
];

/// The load for a probe.
pub(super) fn to(probe: &str) -> Result<&'static Load> {
    let found = ASSIGNED.iter().find(|(name, _)| *name == probe).map(|(_, load)| load);
    found.with_context(|| {
        format!(
            "the bench has no workload for the probe {probe}: give it a row of ASSIGNED in \
             xtask/src/bench/probes/assigned.rs"
        )
    })
}

#[cfg(test)]
mod tests {
    use super::to;

    #[test]
    fn a_probe_without_a_workload_is_named() {
        assert!(to("cpu_throttle").is_ok());
        let error = to("new_probe").unwrap_err().to_string();
        assert!(error.contains("new_probe") && error.contains("ASSIGNED"), "{error}");
    }
}
