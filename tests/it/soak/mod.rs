//! The whole endures: for minutes everything around it comes, changes and goes while all probes have something to count,
//! and Podmeter uses no more at the end than before.
//!
//! | file | what |
//! |---|---|
//! | `pods.rs` | pods that come, go, change their labels and start again, with cgroups, processes and objects of the API |
//! | `target.rs` | a target whose series come and go |
//! | `load.rs` | cgroups by the score, connections, processes that run out of memory |
//! | `schedule.rs` | when a target, the API server and the receiver are gone, and which configuration holds |
//! | `record.rs` | what is checked and written down of each page |
//! | `judge.rs` | what is found at the end, in words and pictures |
//!
//! `cargo xtask test soak --minutes N` says for how long. Nothing here judges a time: the machine is shared.

mod judge;
mod load;
mod pods;
mod record;
mod schedule;
mod target;

use std::{
    env, fs,
    path::PathBuf,
    process::Command,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    thread,
    time::Duration,
};

use podmeter_tests::{
    cgroup::Hierarchy,
    live_pods::LivePods,
    receiver::{Kind, Receiver},
    recorded_api::RecordedApi,
    skip::skipped,
    tools::{podmeter, tool},
    whole::{Around, Whole},
};

use self::{
    judge::{Churned, Verdict},
    load::{LoadCount, Plain},
    pods::Pods,
    record::{Sample, Scraper},
    schedule::Schedule,
};

/// Between two pages.
const PAUSE: Duration = Duration::from_secs(1);

/// How long everything comes and goes before anything is compared: by then the tree of cgroups is full, and the heap has
/// found its size.
const WARM_UP: Duration = Duration::from_mins(1);

/// Between two steps of what comes and goes.
const STEP: Duration = Duration::from_millis(250);
const STEPS_PER_SECOND: u64 = 4;

/// What the tree of cgroups holds beside those that are there at the start. About a hundred live ones are made, and 25 die
/// each second: before long there is room for the dead of the last seconds only, which would be kept for ten minutes
/// otherwise.
const N_MORE_CGROUPS: usize = 700;

/// Cgroups that others on this machine may have made meanwhile, and what they use.
const N_OTHERS: f64 = 20.0;

#[test]
fn the_whole_endures_while_everything_comes_and_goes() {
    let (Some(binary), Some(prometheus)) = (podmeter(), tool("PODMETER_PROMETHEUS")) else {
        return;
    };
    let (Ok(hierarchy), io) = (Hierarchy::find(), Hierarchy::find_io().ok()) else {
        return skipped("no cgroup can be made here");
    };
    let io = io.filter(|io| io.mount() != hierarchy.mount());
    let folder = folder();
    let receiver = Receiver::start(Kind::Prometheus, &prometheus);
    let api = Arc::new(LivePods::default());
    let recorded = RecordedApi::start_among(("dept", "edge"), Arc::clone(&api));
    let pages = target::start(Arc::clone(&api));
    let around =
        Around::start_before(recorded, pages).labelled("{ from: pod.label.region, to: region }");
    let max_cgroups = n_cgroups(&hierarchy) + N_MORE_CGROUPS;
    let mut schedule = Schedule::new(pages, receiver.address(), max_cgroups);
    let mut whole = Whole::start_with(around, Command::new(binary), &schedule.more());

    let mut scraper = Scraper::new();
    let (before, _) = scraper.scrape(&whole.exporter);
    let duration = WARM_UP + Duration::from_mins(minutes());
    let n_steps = duration.as_secs() * STEPS_PER_SECOND;
    let is_over = AtomicBool::new(false);
    let load = LoadCount::default();
    let mut plain = Plain::new([Some(&hierarchy), io.as_ref()].into_iter().flatten());
    let mut samples = Vec::new();
    let pods = thread::scope(|scope| {
        // Whatever fails, the threads come to their end.
        let _ended = Ended(&is_over);
        scope.spawn(|| load::talk(&hierarchy, &is_over, &load));
        scope.spawn(|| load::run_out_of_memory(&hierarchy, &is_over, &load));
        let churn = scope.spawn(|| {
            let mut pods = Pods::start(&hierarchy, io.as_ref(), Arc::clone(&api), &folder);
            for step in 1..=n_steps {
                if is_over.load(Ordering::Relaxed) {
                    break;
                }
                plain.tick();
                if step % STEPS_PER_SECOND == 0 {
                    pods.tick(step / STEPS_PER_SECOND);
                }
                thread::sleep(STEP);
            }
            pods.count
        });
        while scraper.elapsed() < duration {
            let began = scraper.elapsed();
            schedule.tick(began.as_secs(), &mut whole);
            let (sample, page) = scraper.scrape(&whole.exporter);
            Schedule::check(&page);
            samples.push(sample);
            thread::sleep(PAUSE.saturating_sub(scraper.elapsed().saturating_sub(began)));
        }
        is_over.store(true, Ordering::Relaxed);
        churn.join().expect("the churn goes on")
    });
    schedule.end(&mut whole);

    let after = forgotten(&mut scraper, &whole, &mut plain, max_cgroups);
    let churned = Churned { pods, n_plain: plain.n_made, load, n_reloads: schedule.n_reloads() };
    let verdict = Verdict { samples: &samples, before: &before, after: &after, churned };
    verdict.write(&folder);
    pushed(&mut scraper, whole, &receiver);
    verdict.judge();
}

/// All that is over leaves the kernel and Podmeter once as many other cgroups have come and gone; what is used then.
fn forgotten(
    scraper: &mut Scraper,
    whole: &Whole,
    plain: &mut Plain,
    max_cgroups: usize,
) -> Sample {
    for _ in 0..=max_cgroups / load::N_ALIVE {
        plain.make_many(load::N_ALIVE);
        scraper.scrape(&whole.exporter);
        plain.remove_all();
        scraper.scrape(&whole.exporter);
    }
    let (after, page) = scraper.scrape(&whole.exporter);
    let left_out = page.count("podmeter_cgroups_left_out_total", &[]);
    assert!(left_out < 0.5, "{left_out} cgroups found no room, though the dead make some");
    after
}

/// What was pushed has come, the last of it when Podmeter ends, but for collections that are counted as skipped.
fn pushed(scraper: &mut Scraper, whole: Whole, receiver: &Receiver) {
    const INTERVAL_MILLISECONDS: i64 = 1000 * schedule::PUSH_SECONDS;

    let (_, page) = scraper.scrape(&whole.exporter);
    let n_skipped = page.count("podmeter_remote_write_skipped_collections_total", &[]);
    let dropped = "podmeter_remote_write_dropped_samples_total";
    let n_dropped = page.count(dropped, &[]) - page.count(dropped, &[("reason", "relabel")]);
    let n_taken = page.count("podmeter_remote_write_samples_total", &[]);
    let n_retries = page.count("podmeter_remote_write_retries_total", &[]);
    assert!(n_dropped < 0.5, "{n_dropped} samples were dropped, though there was room for them");
    let (status, log) = whole.exporter.terminate();
    assert!(status.success(), "{status}: {log}");
    let samples = receiver.samples("podmeter_build_info");
    let mut times: Vec<i64> = samples.values().flatten().map(|(time, _)| *time).collect();
    times.sort_unstable();
    // The last one is of the end, which is at no instant of its own.
    times.pop();
    let first = *times.first().expect("there are some");
    let last = *times.last().expect("there are some");
    let n_expected = (last - first) as f64 / INTERVAL_MILLISECONDS as f64 + 1.0;
    let n_missing = n_expected - times.len() as f64;
    println!(
        "report: soak | pushed | {n_taken} samples of {} collections, {n_retries} requests sent again, {n_skipped} collections skipped",
        times.len()
    );
    assert!((n_missing - n_skipped).abs() < 0.5, "{n_missing} are missing, {n_skipped} counted");
}

/// Tells the threads that it is over, also when this one panics.
struct Ended<'a>(&'a AtomicBool);

impl Drop for Ended<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

/// For how long, as `cargo xtask test soak --minutes` says it.
fn minutes() -> u64 {
    let minutes = env::var("PODMETER_SOAK_MINUTES").ok();
    minutes.map_or(2, |minutes| minutes.parse().expect("a number of minutes"))
}

/// Where pictures and figures go.
fn folder() -> PathBuf {
    let folder = env::var_os("PODMETER_SOAK_FOLDER").expect("cargo xtask test soak gives it");
    let folder = PathBuf::from(folder);
    fs::create_dir_all(&folder).expect("it can be made");
    folder
}

/// How many cgroups there are.
fn n_cgroups(hierarchy: &Hierarchy) -> usize {
    let mut n_cgroups = 0;
    let mut open = vec![hierarchy.mount().to_owned()];
    while let Some(path) = open.pop() {
        n_cgroups += 1;
        // One may be gone by now.
        let entries = fs::read_dir(path).into_iter().flatten().flatten();
        let folders = entries.filter(|entry| entry.file_type().is_ok_and(|kind| kind.is_dir()));
        open.extend(folders.map(|entry| entry.path()));
    }
    n_cgroups
}

/// Numbers as most readers take them: `40.7 -> 40.9`.
fn from_to((from, to): (f64, f64)) -> String {
    format!("{from:.1} -> {to:.1}")
}
