//! `cargo xtask bench peers`: Podmeter and its peers on equal work, one after the other, in rounds.
//!
//! Relays scrape the same cadvisor page of a node with 10, 110 or 250 pods, with the same rules, and hand it on: Podmeter
//! serves it, or writes it to a receiver that swallows as vmagent and Prometheus' agent do, and a process that only copies
//! the bytes is the floor. Exporters measure the same machine with the same cgroups of so many pods: Podmeter its own
//! families, cAdvisor, `node_exporter`. CPU and memory are those of the whole process, from `/proc/<pid>`; the time of a
//! page is a scraper's, from its connection to the last byte, with 1, 5 and 20 that ask in the same moment.

mod exporters;
mod latency;
mod pods;
mod table;

use std::{sync::Arc, thread, time::Duration};

use anyhow::{Context as _, Result, bail};

use self::{
    exporters::{Kind, Programs},
    latency::Latency,
    pods::Pods,
    table::{Part, Round},
};
use super::{
    measured::Measured,
    relay::{
        self,
        cadvisor::{CONTAINERS_PER_POD, FullPage},
        contestant::{Contestant, Place},
        server::Target,
    },
};
use crate::{
    cargo::{self, Build},
    console, machine, process,
    setup::{self, Purpose, Setup},
};

/// After scrapes, until what they cost is over.
const SETTLE: Duration = Duration::from_secs(1);
/// Scrapes that are not counted.
const N_WARM_UP: u32 = 3;

/// A node, and how it is scraped: so often that what its pages cost is far above the 10 ms in which the kernel counts,
/// and so seldom that everybody is done before the next one.
#[derive(Clone, Copy, Debug)]
struct Size {
    n_pods: usize,
    interval: Duration,
    n_scrapes: u32,
}

const SIZES: [Size; 3] = [
    Size { n_pods: 10, interval: Duration::from_millis(250), n_scrapes: 40 },
    Size { n_pods: 110, interval: Duration::from_secs(1), n_scrapes: 15 },
    Size { n_pods: 250, interval: Duration::from_secs(2), n_scrapes: 10 },
];

/// Podmeter is the first: the others are compared with it.
const RELAYS: [Contestant; 5] = [
    Contestant::Podmeter,
    Contestant::PodmeterPushing,
    Contestant::Vmagent,
    Contestant::PrometheusAgent,
    Contestant::Copier,
];

/// How long is measured.
#[derive(Debug, clap::Args)]
pub(crate) struct Options {
    /// How often each is started on each node.
    #[arg(long, default_value_t = 2, value_parser = clap::value_parser!(u32).range(1..))]
    rounds: u32,
    /// Only the nodes with so many pods.
    #[arg(long)]
    pods: Vec<usize>,
}

impl Options {
    fn wants(&self, size: &Size) -> bool {
        self.pods.is_empty() || self.pods.contains(&size.n_pods)
    }
}

/// `cargo xtask bench peers`.
pub(super) fn run(options: &Options) -> Result<()> {
    if !process::is_root() {
        bail!(
            "the bench makes cgroups, which needs root: run `sudo --preserve-env cargo xtask bench peers`"
        );
    }
    let setup = setup::ensure(Purpose::Bench)?;
    let podmeter = cargo::build_podmeter(Build::Release)?;
    let programs = Programs {
        podmeter,
        cadvisor: setup::cadvisor(&setup.cache).context("there is no cAdvisor")?,
        node_exporter: setup::node_exporter(&setup.cache).context("there is no node_exporter")?,
    };
    let (mut rows, mut failures) = (Vec::new(), Vec::new());
    for number in 1..=options.rounds {
        for size in SIZES.into_iter().filter(|size| options.wants(size)) {
            let note = |name: &str| {
                console::note(&format!("round {number}, {} pods: {name}", size.n_pods));
            };
            let mut take = |part, name, round: Result<Round>| match round {
                Ok(round) => table::add(&mut rows, part, name, size.n_pods, round),
                Err(error) => {
                    failures.push(format!("{name}, {} pods, is missing: {error:#}", size.n_pods));
                }
            };
            relays(&setup, &programs, size, &mut take, note)?;
            exporters(&programs, size, &mut take, note)?;
        }
    }
    console::say(&table::written(&rows));
    console::say(&format!("{}; {} rounds", machine::described(), options.rounds));
    if !failures.is_empty() {
        bail!("{}", failures.join("\n"));
    }
    Ok(())
}

fn relays(
    setup: &Setup,
    programs: &Programs,
    size: Size,
    take: &mut impl FnMut(Part, &'static str, Result<Round>),
    note: impl Fn(&str),
) -> Result<()> {
    let page = relay::full_page(size.n_pods)?;
    let place = relay::place(setup, programs.podmeter.clone(), &page, size.interval)?;
    for contestant in RELAYS {
        note(contestant.name());
        let round = relay(contestant, &place, &page, size.n_scrapes);
        take(Part::Relay, contestant.name(), round);
    }
    Ok(())
}

fn exporters(
    programs: &Programs,
    size: Size,
    take: &mut impl FnMut(Part, &'static str, Result<Round>),
    note: impl Fn(&str),
) -> Result<()> {
    let pods = Pods::create(size.n_pods, CONTAINERS_PER_POD)?;
    for kind in Kind::ALL {
        note(kind.name());
        take(Part::Exporter, kind.name(), exporter(kind, programs, &pods, size));
    }
    Ok(())
}

fn relay(
    contestant: Contestant,
    place: &Place,
    page: &Arc<FullPage>,
    n_scrapes: u32,
) -> Result<Round> {
    let target = Target::start(Arc::clone(page), None)?;
    let mut running = contestant.start(place, &target)?;
    target.open();
    for _ in 0..N_WARM_UP {
        running.scrape(&target)?;
    }
    thread::sleep(SETTLE);
    let (before, n_before) = (running.process().cpu()?, target.n_served());
    for _ in 0..n_scrapes {
        running.scrape(&target)?;
    }
    thread::sleep(SETTLE);
    let (used, n_served) = (running.process().cpu()?.since(before), target.n_served() - n_before);
    let n_samples = running.n_samples(&target, page.n_samples())?;
    let resident_bytes = running.process().memory()?.resident_bytes;
    let latencies = running.page_address().map(latency::measure).transpose()?;
    Ok(Round {
        cpu: used.total(),
        // Those that ask by themselves may have done so once more.
        n_scrapes: u32::try_from(n_served)?,
        n_samples,
        resident_bytes,
        peak_bytes: peak(running.process())?,
        latencies,
    })
}

fn exporter(kind: Kind, programs: &Programs, pods: &Pods, size: Size) -> Result<Round> {
    let mut running = kind.start(programs, pods, size.interval)?;
    for _ in 0..N_WARM_UP {
        running.scrape()?;
    }
    thread::sleep(SETTLE);
    let before = running.process().cpu()?;
    let mut page = String::new();
    for _ in 0..size.n_scrapes {
        page = running.scrape()?;
    }
    // What one measures by its own clock belongs to the interval behind the last page, too.
    thread::sleep(size.interval);
    let used = running.process().cpu()?.since(before);
    let resident_bytes = running.process().memory()?.resident_bytes;
    let latencies: [Latency; 3] = latency::measure(running.address())?;
    Ok(Round {
        cpu: used.total(),
        n_scrapes: size.n_scrapes,
        n_samples: f64::from(u32::try_from(exporters::n_samples(&page))?),
        resident_bytes,
        peak_bytes: peak(running.process())?,
        latencies: Some(latencies),
    })
}

fn peak(process: &Measured) -> Result<u64> {
    Ok(process.memory()?.peak_bytes)
}
