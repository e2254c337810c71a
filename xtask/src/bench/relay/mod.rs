//! `cargo xtask bench relay`: what relaying a full node's cadvisor page costs, against vmagent and Prometheus.
//!
//! One after the other they scrape the same page with the same rules every two seconds, in rounds, so that whatever else
//! the machine does hits all of them. What is measured is the whole process, from `/proc/<pid>/stat`: Podmeter fetches,
//! labels and serves to a client that reads; vmagent fetches, labels and writes to a receiver that swallows; Prometheus
//! fetches, labels and stores. The target's timestamps are left out by all: Prometheus would refuse those that stand
//! still, sample by sample, which costs it several times as much. The page is uncompressed for all of them, and in rows
//! of their own it comes to the two others as a kubelet sends it: they ask for gzip unless they are told not to; Podmeter
//! asks for none. Beside them stands a process that only copies the page, from one socket to another.

pub(super) mod cadvisor;
pub(super) mod contestant;
pub(super) mod copier;
pub(super) mod server;
mod table;

use std::{
    env, fs,
    path::PathBuf,
    sync::Arc,
    thread,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use anyhow::{Context as _, Result};

use self::{
    cadvisor::FullPage,
    contestant::{Contestant, Place},
    server::Target,
    table::Round,
};
use super::{measured, probes};
use crate::{
    cargo::{self, Build},
    console, machine,
    setup::{self, Purpose, Setup},
};

/// Between two scrapes.
const INTERVAL: Duration = Duration::from_secs(2);
/// After a scrape, until what it costs is over; the next one comes later.
const SETTLE: Duration = Duration::from_secs(1);
/// Scrapes that are not counted: caches fill, and heaps grow.
const N_WARM_UP: u32 = 5;

/// How long is measured.
#[derive(Debug, clap::Args)]
pub(crate) struct Options {
    /// How often each is started; the first scrape of each start is the cold one.
    #[arg(long, default_value_t = 3, value_parser = clap::value_parser!(u32).range(1..))]
    rounds: u32,
    /// How many scrapes of each round are counted.
    #[arg(long, default_value_t = 10, value_parser = clap::value_parser!(u32).range(1..))]
    scrapes: u32,
}

/// `cargo xtask bench relay`.
pub(super) fn run(options: &Options) -> Result<()> {
    let setup = setup::ensure(Purpose::Bench)?;
    let podmeter = cargo::build_podmeter(Build::Release)?;
    let page = full_page(cadvisor::N_PODS)?;
    let place = place(&setup, podmeter, &page, INTERVAL)?;
    let mut rounds: Vec<(Contestant, Vec<Round>)> =
        Contestant::ALL.into_iter().map(|contestant| (contestant, Vec::new())).collect();
    for number in 1..=options.rounds {
        for (contestant, rounds) in &mut rounds {
            console::note(&format!("round {number}: {}", contestant.name()));
            let round = round(*contestant, &place, &page, options.scrapes);
            rounds.push(round.with_context(|| contestant.name())?);
        }
    }
    console::say(&table::written(&rounds));
    let Options { rounds, scrapes } = options;
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    let mut bytes = Vec::new();
    page.write(0, now.as_millis(), &mut bytes);
    console::say(&format!(
        "page: {} pods, {} samples, {}",
        page.pods().len(),
        page.n_samples(),
        measured::megabytes(u64::try_from(bytes.len())?)
    ));
    console::say(&format!("{}; {rounds} rounds of {scrapes} scrapes", machine::described()));
    Ok(())
}

/// The page of a node with so many pods.
pub(super) fn full_page(n_pods: usize) -> Result<Arc<FullPage>> {
    let recorded = cargo::root().join("tests/fixtures/v1.34.9/pages/kubelet-metrics-cadvisor.txt");
    let recorded = fs::read_to_string(&recorded)
        .with_context(|| format!("failed to read {}", recorded.display()))?;
    Ok(Arc::new(FullPage::new(&recorded, n_pods, cadvisor::CONTAINERS_PER_POD)))
}

/// Where all contestants are, with an API server that knows the pods of the page.
pub(super) fn place(
    setup: &Setup,
    podmeter: PathBuf,
    page: &FullPage,
    interval: Duration,
) -> Result<Place> {
    Ok(Place {
        vmagent: setup::vmagent(&setup.cache).context("there is no vmagent")?,
        prometheus: setup::prometheus_tool(&setup.cache, "prometheus")
            .context("there is no Prometheus")?,
        api_server: server::api_server(page.pods())?,
        sink: server::sink()?,
        without_probes: probes::none(&podmeter)?,
        podmeter,
        xtask: env::current_exe().context("this program has no path")?,
        interval,
        packed: server::packed(page)?,
    })
}

/// Starts one, measures its first scrape and then some more, and stops it.
fn round(
    contestant: Contestant,
    place: &Place,
    page: &Arc<FullPage>,
    n_scrapes: u32,
) -> Result<Round> {
    let packed = contestant.takes_gzip().then(|| Arc::clone(&place.packed));
    let target = Target::start(Arc::clone(page), packed)?;
    let mut running = contestant.start(place, &target)?;
    thread::sleep(SETTLE);
    let before = running.process().cpu()?;
    target.open();
    running.scrape(&target)?;
    thread::sleep(SETTLE);
    let cold = running.process().cpu()?.since(before);
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
    // Those that ask by themselves may have done so once more where the machine is busy.
    let n_scrapes = u32::try_from(n_served)?;
    let memory = running.process().memory()?;
    let n_samples = running.n_samples(&target, page.n_samples())?;
    Ok(Round { cold, used, n_scrapes, memory, n_samples })
}
