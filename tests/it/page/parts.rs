//! A scrape asks the real process for a part of the page, and nothing else is looked at for it.

use std::{
    net::{SocketAddr, TcpListener},
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    thread,
};

use podmeter_tests::{exporter::Exporter, http::get, page_server::serve, tools::podmeter};

const PATIENT: (&str, &str) = ("X-Prometheus-Scrape-Timeout-Seconds", "60");

/// A target with one series, and how often it was asked.
fn target(name: &'static str) -> (SocketAddr, Arc<AtomicUsize>) {
    let n_requests = Arc::new(AtomicUsize::new(0));
    let counter = Arc::clone(&n_requests);
    let address = serve("text/plain; version=0.0.4", move |_path| {
        counter.fetch_add(1, Ordering::Relaxed);
        format!("{name} 1\n").into_bytes()
    });
    (address, n_requests)
}

/// The names of the families that have samples.
fn names(page: &str) -> Vec<&str> {
    let samples = page.lines().filter(|line| !line.starts_with('#'));
    let mut names: Vec<_> = samples.filter_map(|line| line.split(['{', ' ']).next()).collect();
    names.dedup();
    names
}

#[test]
fn a_part_has_what_was_asked_for_and_asks_nobody_else() {
    let Some(binary) = podmeter() else { return };
    let [(one, n_one), (two, n_two)] = [target("from_one"), target("from_two")];
    let config = format!(
        "scrape_configs:\n- {{ job_name: one, url: 'http://{one}/' }}\n- {{ job_name: two, url: 'http://{two}/' }}\n"
    );
    let exporter = Exporter::start(&binary, &config);
    let page = |query: &str| get(&exporter.url(&format!("/metrics{query}")), &[]);

    let of_one = page("?job=one");
    assert!(
        of_one.text().lines().all(|line| line.starts_with('#') || line.contains("job=\"one\""))
    );
    let meta = [
        "scrape_body_size_bytes",
        "scrape_duration_seconds",
        "scrape_samples_post_metric_relabeling",
        "scrape_samples_scraped",
        "scrape_series_added",
        "up",
    ];
    let expected: Vec<_> = ["from_one"].into_iter().chain(meta).collect();
    assert_eq!(names(of_one.text()), expected);
    assert_eq!(n_one.load(Ordering::Relaxed), 1);

    let own = page("?collect[]=process");
    assert_eq!(names(own.text()).first(), Some(&"process_cpu_seconds_total"), "{}", own.text());
    assert!(names(own.text()).iter().all(|name| name.starts_with("process_")));

    let rest = page("?exclude[]=process&exclude[]=one");
    let rest = names(rest.text());
    assert!(rest.contains(&"from_two") && rest.contains(&"podmeter_build_info"), "{rest:?}");
    assert!(!rest.contains(&"from_one") && !rest.contains(&"process_cpu_seconds_total"));
    assert_eq!((n_one.load(Ordering::Relaxed), n_two.load(Ordering::Relaxed)), (1, 1));

    assert_eq!(names(page("?job=two&job=one").text())[..2], ["from_one", "from_two"]);
    let refused = page("?job=three");
    assert_eq!(refused.status, 400);
    assert_eq!(
        refused.text(),
        "there is no target with the job \"three\"; the jobs are one, two\n"
    );
    assert_eq!(page("?collect[]=one&exclude[]=two").status, 400);
}

/// Pages of single targets are made side by side, also while the page of one of them waits.
#[test]
fn the_page_of_one_target_waits_for_no_other() {
    let Some(binary) = podmeter() else { return };
    let hangs = TcpListener::bind("127.0.0.1:0").expect("there is a free port");
    let address = hangs.local_addr().expect("it has an address");
    let (quick, n_quick) = target("from_quick");
    let config = format!(
        "scrape_configs:\n- {{ job_name: hangs, url: 'http://{address}/', scrape_timeout: 1m }}\n- {{ job_name: quick, url: 'http://{quick}/' }}\n"
    );
    let exporter = Exporter::start(&binary, &config);
    let url = exporter.url("/metrics?job=hangs");
    let hung = thread::spawn(move || get(&url, &[PATIENT]));
    let (stream, _) = hangs.accept().expect("its page wants it");
    for n_times in 1..=3 {
        let part = get(&exporter.url("/metrics?job=quick"), &[PATIENT]);
        assert!(part.text().contains("from_quick{"), "{}", part.text());
        assert_eq!(n_quick.load(Ordering::Relaxed), n_times);
    }
    assert!(!hung.is_finished(), "it waits for its target");
    drop((stream, hangs));
    let hung = hung.join().expect("its page comes");
    assert!(hung.text().contains("up{job=\"hangs\""), "{}", hung.text());
}

#[test]
fn a_target_that_hangs_delays_no_page_without_it() {
    let Some(binary) = podmeter() else { return };
    let hangs = TcpListener::bind("127.0.0.1:0").expect("there is a free port");
    let address = hangs.local_addr().expect("it has an address");
    let (quick, _) = target("from_quick");
    let config = format!(
        "scrape_configs:\n- {{ job_name: hangs, url: 'http://{address}/', scrape_timeout: 1m }}\n- {{ job_name: quick, url: 'http://{quick}/' }}\n"
    );
    let exporter = Exporter::start(&binary, &config);
    let url = exporter.url("/metrics");
    let whole = thread::spawn(move || get(&url, &[PATIENT]));
    let (stream, _) = hangs.accept().expect("the whole page wants it");

    let part = get(&exporter.url("/metrics?job=quick"), &[PATIENT]);
    assert!(part.text().contains("up{job=\"quick\""), "{}", part.text());
    let own = get(&exporter.url("/metrics?collect[]=process"), &[PATIENT]);
    assert!(own.text().contains("process_cpu_seconds_total"));
    // Another page waits for the target only as long as its scraper does.
    let impatient = [("X-Prometheus-Scrape-Timeout-Seconds", "1")];
    let hung = get(&exporter.url("/metrics?job=hangs&collect[]=podmeter"), &impatient);
    assert!(hung.text().contains("reason=\"busy\"} 1"), "{}", hung.text());
    assert!(!whole.is_finished(), "it waits for the target");

    drop(stream);
    drop(hangs);
    let whole = whole.join().expect("the page comes");
    assert!(whole.text().contains("from_quick{"), "{}", whole.text());
    assert!(whole.text().contains("podmeter_target_failures_total{job=\"hangs\""));
}
