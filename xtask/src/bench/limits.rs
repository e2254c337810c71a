//! `cargo xtask bench`, without a part: the three limits that the exporter keeps, measured on this machine with 500 cgroups.
//!
//! First page: from the start of the process to a complete answer. CPU: user and system time of the process from
//! `/proc/<pid>/stat`, over 50 scrapes. Memory: `VmRSS` after ten idle seconds.
//!
//! Beside them it shows when, in another run with the target and the API server of `relay`, the first page came that has
//! the target's samples with the labels of their pods.

use std::{
    path::Path,
    sync::Arc,
    thread,
    time::{Duration, Instant},
};

use anyhow::{Result, bail};

use super::{
    cgroups::{self, Cgroups},
    exporter::Exporter,
    measured::megabytes,
    relay::{
        self, cadvisor,
        contestant::{self, WATCHING},
        server::{self, Target},
    },
};
use crate::{
    cargo::{self, Build},
    console, machine, process,
    setup::{self, Purpose},
};

const N_CGROUPS: usize = 500;
const N_SCRAPES: u32 = 50;
const IDLE_TIME: Duration = Duration::from_secs(10);

/// How long is waited for a page that is whole.
const WHOLE_PAGE_PATIENCE: Duration = Duration::from_secs(30);

const MAX_FIRST_PAGE: Duration = Duration::from_secs(1);
const MAX_CPU_PER_SCRAPE: Duration = Duration::from_millis(10);
const MAX_IDLE_BYTES: u64 = 20_000_000;

/// Measures them; an error if one is not kept.
pub(super) fn run() -> Result<()> {
    if !process::is_root() {
        bail!(
            "the bench makes cgroups, which needs root: run `sudo --preserve-env cargo xtask bench`"
        );
    }
    setup::ensure(Purpose::Run)?;
    let podmeter = cargo::build_podmeter(Build::Release)?;
    // Dropped last, and on every error: nothing of it stays on the machine.
    let cgroups = Cgroups::create(N_CGROUPS)?;
    let whole_page = whole_page(&podmeter)?;
    let measured = measure(&podmeter)?;
    console::say(&format!(
        "{N_CGROUPS} cgroups with a quota under {}; {N_SCRAPES} scrapes of {} lines, {} of them about these cgroups",
        cgroups.parent().display(),
        measured.n_lines,
        measured.n_lines_of_bench
    ));
    let mut is_kept = true;
    for row in rows(&measured) {
        let Row { name, measured, limit, .. } = &row;
        let verdict = if row.is_kept { "ok" } else { "OVER THE LIMIT" };
        console::say(&format!("{name:<15} {measured:<40} limit {limit:<10} {verdict}"));
        is_kept &= row.is_kept;
    }
    let WholePage { time, n_before, n_pods, n_samples } = whole_page;
    console::say(&format!(
        "whole page      {} after start, behind {n_before} that were not; {n_pods} pods, {n_samples} samples of a target",
        milliseconds(time)
    ));
    console::say(&machine::described());
    if measured.n_lines_of_bench == 0 {
        bail!(
            "the page says nothing of the bench's cgroups: what was measured is not what was meant"
        );
    }
    if !is_kept {
        bail!("a limit is not kept");
    }
    Ok(())
}

/// What was measured.
#[derive(Debug)]
struct Measured {
    first_page: Duration,
    user_per_scrape: Duration,
    system_per_scrape: Duration,
    idle_bytes: u64,
    bytes_after_scrapes: u64,
    n_lines: usize,
    n_lines_of_bench: usize,
}

fn measure(podmeter: &Path) -> Result<Measured> {
    let start = Instant::now();
    let mut exporter = Exporter::start(podmeter, "")?;
    exporter.first_page()?;
    let first_page = start.elapsed();
    thread::sleep(IDLE_TIME);
    let idle_bytes = exporter.process().memory()?.resident_bytes;
    let before = exporter.process().cpu()?;
    let mut page = String::new();
    for _ in 0..N_SCRAPES {
        page = exporter.scrape()?;
    }
    let used = exporter.process().cpu()?.since(before);
    Ok(Measured {
        first_page,
        user_per_scrape: used.user / N_SCRAPES,
        system_per_scrape: used.system / N_SCRAPES,
        idle_bytes,
        bytes_after_scrapes: exporter.process().memory()?.resident_bytes,
        n_lines: page.lines().count(),
        n_lines_of_bench: page.lines().filter(|line| line.contains(cgroups::NAME)).count(),
    })
}

/// The first page with a target's samples and the labels of their pods.
#[derive(Debug)]
struct WholePage {
    /// From the start of the process.
    time: Duration,
    /// Pages that came earlier, and lacked some of it.
    n_before: usize,
    n_pods: usize,
    n_samples: usize,
}

fn whole_page(podmeter: &Path) -> Result<WholePage> {
    let page = relay::full_page(cadvisor::N_PODS)?;
    let api_server = server::api_server(page.pods())?;
    let target = Target::start(Arc::clone(&page), None)?;
    target.open();
    let configuration = contestant::configuration(api_server, &target, "")?;
    let start = Instant::now();
    let mut exporter = Exporter::start(podmeter, &configuration)?;
    let mut text = exporter.first_page()?;
    let mut n_before = 0;
    loop {
        let time = start.elapsed();
        let n_samples = text.lines().filter(|line| line.contains("region=\"beijing\"")).count();
        if text.contains(WATCHING) && n_samples > 0 {
            return Ok(WholePage { time, n_before, n_pods: page.pods().len(), n_samples });
        }
        if time > WHOLE_PAGE_PATIENCE {
            bail!("no page is whole; the log is {}", exporter.process().log().display());
        }
        n_before += 1;
        text = exporter.scrape()?;
    }
}

/// A limit, and whether it is kept.
struct Row {
    name: &'static str,
    measured: String,
    limit: String,
    is_kept: bool,
}

fn rows(measured: &Measured) -> [Row; 3] {
    let Measured { first_page, user_per_scrape: user, system_per_scrape: system, .. } = *measured;
    let Measured { idle_bytes: idle, bytes_after_scrapes: after, .. } = *measured;
    [
        Row {
            name: "first page",
            measured: format!("{} after start", milliseconds(first_page)),
            limit: milliseconds(MAX_FIRST_PAGE),
            is_kept: first_page <= MAX_FIRST_PAGE,
        },
        Row {
            name: "CPU per scrape",
            measured: format!("{} user + {} system", milliseconds(user), milliseconds(system)),
            limit: milliseconds(MAX_CPU_PER_SCRAPE),
            is_kept: user + system <= MAX_CPU_PER_SCRAPE,
        },
        Row {
            name: "idle memory",
            measured: format!("{} ({} after the scrapes)", megabytes(idle), megabytes(after)),
            limit: megabytes(MAX_IDLE_BYTES),
            is_kept: idle <= MAX_IDLE_BYTES,
        },
    ]
}

fn milliseconds(time: Duration) -> String {
    format!("{:.1} ms", time.as_secs_f64() * 1e3)
}
