//! Cgroups come and go while the page is scraped, the targets with them.

use std::{
    sync::atomic::{AtomicBool, AtomicUsize, Ordering},
    thread,
    time::Duration,
};

use podmeter_tests::{
    cgroup::{Hierarchy, wait_for},
    skip::skipped,
    whole::{JOBS, NodePage, Whole},
};

const N_PAGES: usize = 30;

/// Cgroups that are alive at once.
const N_ALIVE: usize = 50;

/// How long they live.
const PAUSE: Duration = Duration::from_millis(20);

/// Cgroups that others may make meanwhile.
const OTHERS: f64 = 20.0;

fn n_live(page: &NodePage) -> f64 {
    page.count("podmeter_cgroups", &[("state", "live")])
}

#[test]
fn cgroups_and_targets_come_and_go_while_it_is_scraped() {
    let Some(mut whole) = Whole::start() else { return };
    let Ok(hierarchy) = Hierarchy::find() else {
        return skipped("no cgroup can be made here");
    };
    let n_live_before = n_live(&whole.page());
    let is_over = AtomicBool::new(false);
    let n_made = AtomicUsize::new(0);
    thread::scope(|scope| {
        scope.spawn(|| {
            while !is_over.load(Ordering::Relaxed) {
                let made: Vec<_> =
                    (0..N_ALIVE).map(|idx| hierarchy.create(&format!("churn-{idx}"))).collect();
                n_made.fetch_add(made.len(), Ordering::Relaxed);
                thread::sleep(PAUSE);
            }
        });
        let mut last = whole.page();
        for idx in 0..N_PAGES {
            let is_gone = idx % 3 == 2;
            if is_gone {
                whole.around.targets.close();
            }
            let page = whole.page();
            assert_eq!(page.0.fallen_since(&last.0), <[String; 0]>::default());
            assert_eq!(page.n_up(), if is_gone { 0 } else { JOBS.len() });
            if is_gone {
                whole.around.targets.open();
            }
            last = page;
        }
        is_over.store(true, Ordering::Relaxed);
    });
    let mut n_scrapes = 0;
    wait_for("those that are gone are no longer alive", || {
        n_scrapes += 1;
        n_live(&whole.page()) <= n_live_before + OTHERS
    });
    println!(
        "report: faults | {} cgroups and all targets come and go over {N_PAGES} pages | no counter fell, no series twice | healed at scrape {n_scrapes}",
        n_made.load(Ordering::Relaxed)
    );
}
