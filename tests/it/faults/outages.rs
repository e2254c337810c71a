//! Targets, the API server and the token go and come back.

use podmeter_tests::{
    cgroup::wait_for,
    whole::{JOBS, NodePage, Whole},
};

/// Scrapes while a part is gone.
const N_SCRAPES: usize = 3;

/// Families of a page that has neither targets nor news of the API.
fn expect_own_series(page: &NodePage) {
    for family in ["podmeter_build_info", "podmeter_cgroups", "process_cpu_seconds_total"] {
        assert!(page.0.sum(family, &[]).is_some(), "{family} is gone");
    }
}

/// Scrapes a page until the condition holds, and gives how many it took, that one included.
fn scrapes_until(whole: &Whole, what: &str, condition: impl Fn(&NodePage) -> bool) -> usize {
    let mut n_scrapes = 0;
    wait_for(what, || {
        n_scrapes += 1;
        condition(&whole.page())
    });
    n_scrapes
}

#[test]
fn all_targets_go_and_the_next_scrape_has_them_back() {
    let Some(mut whole) = Whole::start() else { return };
    let before = whole.page();
    assert_eq!(before.n_up(), JOBS.len());

    whole.around.targets.close();
    for n_scrapes in 1..=N_SCRAPES {
        let page = whole.page();
        expect_own_series(&page);
        assert!(page.count("kube_pod_info", &[]) > 0.5, "the pods are known without targets");
        assert_eq!(page.n_up(), 0);
        let expected = (n_scrapes * JOBS.len()) as f64;
        assert!((page.n_failures("connect") - expected).abs() < 0.5, "each scrape is counted");
    }

    whole.around.targets.open();
    let after = whole.page();
    assert_eq!(after.n_up(), JOBS.len(), "the first scrape has them back");
    assert!(after.knows_pods(), "with the labels of their pods");
    let expected = (N_SCRAPES * JOBS.len()) as f64;
    assert!((after.n_failures("connect") - expected).abs() < 0.5, "and counts no more");
    println!(
        "report: faults | all targets gone | served: own series and pods | counted: {expected} connect | healed at scrape 1"
    );
}

#[test]
fn the_api_server_goes_and_names_stay() {
    let Some(mut whole) = Whole::start() else { return };
    let before = whole.page();
    let n_pods = before.count("kube_pod_info", &[]);

    whole.around.api.close();
    let n_noticed = scrapes_until(&whole, "it is noticed", |page| {
        assert!(page.knows_pods(), "names stay");
        page.count("podmeter_kubernetes_errors_total", &[]) > 0.5
    });
    for _ in 0..N_SCRAPES {
        let page = whole.page();
        assert!(page.knows_pods(), "names stay");
        assert_eq!(page.n_up(), JOBS.len());
        assert!((page.count("kube_pod_info", &[]) - n_pods).abs() < 0.5, "no pod is lost");
        assert!(!page.is_watching(), "the page says that nobody watches");
    }

    whole.around.api.open();
    let n_healed = scrapes_until(&whole, "it is watched again", |page| {
        assert!(page.knows_pods(), "names stay");
        page.is_watching()
    });
    let n_errors = whole.page().count("podmeter_kubernetes_errors_total", &[]);
    println!(
        "report: faults | API server gone | served: all | counted: {n_errors} errors | noticed at scrape {n_noticed}, healed at scrape {n_healed} without a pause"
    );
}

#[test]
fn the_token_goes_and_the_next_scrape_has_it_back() {
    let Some(whole) = Whole::start() else { return };
    whole.around.take_token();
    for n_scrapes in 1..=N_SCRAPES {
        let page = whole.page();
        expect_own_series(&page);
        assert_eq!(page.n_up(), 0);
        let expected = (n_scrapes * JOBS.len()) as f64;
        assert!((page.n_failures("credentials") - expected).abs() < 0.5);
        assert!(page.count("kube_pod_info", &[]) > 0.5, "the watch goes on");
    }
    assert!(whole.landing().contains("cannot read the credentials"));
    whole.around.give_token();
    let page = whole.page();
    assert_eq!(page.n_up(), JOBS.len(), "the first scrape has it back");
    assert!(page.knows_pods());
    let n_failures = page.n_failures("credentials");
    println!(
        "report: faults | token gone | served: own series and pods | counted: {n_failures} credentials | healed at scrape 1"
    );
}

/// Nothing of what is around Podmeter is there, neither when it starts nor while it runs.
#[test]
fn everything_goes_at_once() {
    let Some(mut whole) = Whole::start() else { return };
    let before = whole.page();
    whole.around.targets.close();
    whole.around.api.close();
    whole.around.take_token();
    for _ in 0..N_SCRAPES {
        let page = whole.page();
        expect_own_series(&page);
        assert!(page.count("kube_pod_info", &[]) > 0.5, "the pods are remembered");
        assert_eq!(page.n_up(), 0);
        assert_eq!(page.0.fallen_since(&before.0), <[String; 0]>::default());
    }
    whole.around.give_token();
    whole.around.api.open();
    whole.around.targets.open();
    let page = whole.page();
    assert_eq!(page.n_up(), JOBS.len(), "the first scrape has the targets back");
    let n_healed = scrapes_until(&whole, "all is as before", |page| {
        page.n_up() == JOBS.len() && page.is_watching() && page.knows_pods()
    });
    println!(
        "report: faults | targets, API server and token gone | served: own series and pods | healed: targets at scrape 1, watch at scrape {} without a pause",
        n_healed + 1
    );
}
