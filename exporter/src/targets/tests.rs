//! Targets as real sockets, each with what it does, and what that costs the others.

use std::{
    net::SocketAddr,
    sync::Arc,
    time::{Duration, Instant},
};

use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpListener,
};

use super::{Remark, Scraped, SharedPods, Targets};
use crate::{
    config::{Config, local::Expected},
    labelling::relay::{DropReason, NamedPods},
    metric::Value,
    page::{Page, PageFamily, relayed::SeriesHasher},
};

const PAGE: &str = "# TYPE a counter\na 1\na{b=\"c\"} 2\n";
const TEXT: &str = "Content-Type: text/plain; version=0.0.4\r\n";

/// Answers every request with this, and keeps the connection open.
async fn target(answer: String) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
    let address = listener.local_addr().expect("it has an address");
    tokio::spawn(async move {
        loop {
            let (mut stream, _) = listener.accept().await.expect("somebody connects");
            let answer = answer.clone();
            tokio::spawn(async move {
                let mut request = [0; 4096];
                while stream.read(&mut request).await.is_ok_and(|n_bytes| n_bytes > 0) {
                    if stream.write_all(answer.as_bytes()).await.is_err() {
                        return;
                    }
                }
            });
        }
    });
    address
}

fn answer(headers: &str, page: &str) -> String {
    format!("HTTP/1.1 200 OK\r\n{headers}Content-Length: {}\r\n\r\n{page}", page.len())
}

/// The targets of a configuration with these jobs.
fn targets(jobs: &[(&str, SocketAddr, &str)]) -> Targets {
    targets_as(Expected::Surely, jobs)
}

fn targets_as(expected: Expected, jobs: &[(&str, SocketAddr, &str)]) -> Targets {
    let mut yaml = String::from("scrape_configs:\n");
    for (job, address, options) in jobs {
        yaml.push_str("  - { job_name: ");
        yaml.push_str(job);
        yaml.push_str(", url: 'http://");
        yaml.push_str(&address.to_string());
        yaml.push_str("/metrics'");
        yaml.push_str(options);
        yaml.push_str(" }\n");
    }
    let mut config =
        Config::parse(&yaml, "podmeter.yaml", &|_| None).expect("the configuration is one");
    config.scrape_configs.iter_mut().for_each(|target| target.expected = expected);
    let external = [("cluster".to_owned(), "c1".to_owned())];
    Targets::new(
        &config.scrape_configs,
        &Arc::default(),
        &external,
        "n1",
        SeriesHasher::default(),
        None,
    )
    .expect("its rules are rules")
}

/// A target that stays as it was is the same one, with all that it remembers; one that changes begins anew.
#[tokio::test]
async fn a_target_that_stays_keeps_what_it_remembers() {
    let address = target(answer(TEXT, PAGE)).await;
    let parse = |yaml: &str| Config::parse(yaml, "podmeter.yaml", &|_| None).expect("it is one");
    let both = |options: &str| {
        parse(&format!(
            "scrape_configs:\n  - {{ job_name: a, url: 'http://{address}/' }}\n  \
             - {{ job_name: b, url: 'http://{address}/'{options} }}\n"
        ))
    };
    let after = |config: &Config, before: &Targets| {
        let hasher = before.hasher().clone();
        Targets::new(&config.scrape_configs, &Arc::default(), &[], "n1", hasher, Some(before))
            .expect("its rules are rules")
    };
    let none = targets(&[]);
    let before = after(&both(""), &none);
    scrape(&before).await;
    let n_misses = |scraped: &[Scraped]| -> Vec<usize> {
        scraped.iter().map(|one| one.result.as_ref().expect("a page").counts.n_misses).collect()
    };
    let changed = after(&both(", honor_timestamps: false"), &before);
    assert_eq!(n_misses(&scrape(&changed).await), [0, 2]);
    let fewer = after(&parse("scrape_configs: []"), &changed);
    assert_eq!(fewer.jobs().count(), 0);
}

async fn scrape(targets: &Targets) -> Vec<Scraped> {
    let pods: SharedPods = Arc::new(NamedPods::default());
    targets.scrape(&pods, |_| true, Instant::now() + Duration::from_secs(2)).await
}

fn reason(scraped: &Scraped) -> &'static str {
    scraped.result.as_ref().map_or_else(super::TargetError::reason, |_| "")
}

#[tokio::test]
async fn a_broken_target_costs_only_itself() {
    let good = target(answer(TEXT, PAGE)).await;
    let hangs = target(String::new()).await;
    let nobody = {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        listener.local_addr().expect("it has an address, for now")
    };
    let html = target(answer("Content-Type: text/html\r\n", "<html>")).await;
    let untyped = target(answer("", PAGE)).await;
    let garbage = target(answer(TEXT, "\u{1}\u{2}\n\u{3}")).await;
    let cut = target(answer("Content-Type: application/openmetrics-text\r\n", PAGE)).await;
    let one_bad_line = target(answer(TEXT, "a 1\nb x\nc 3\n")).await;
    let targets = targets(&[
        ("good", good, ""),
        ("hangs", hangs, ", scrape_timeout: 300ms"),
        ("nobody", nobody, ""),
        ("html", html, ""),
        ("untyped", untyped, ""),
        ("garbage", garbage, ""),
        ("cut", cut, ""),
        ("limited", good, ", sample_limit: 1"),
        ("labels", good, ", label_limit: 3"),
        ("one_bad_line", one_bad_line, ""),
    ]);
    for _ in 0..2 {
        let scraped = scrape(&targets).await;
        let reasons: Vec<_> = scraped.iter().map(reason).collect();
        let expected = [
            "",
            "timeout",
            "connect",
            "content_type",
            "content_type",
            "no_metrics",
            "no_eof",
            "sample_limit",
            "label_limit",
            "",
        ];
        assert_eq!(reasons, expected);
        let kept: Vec<_> = scraped.iter().map(|scraped| scraped.meta().n_kept).collect();
        assert_eq!(kept, [2, 0, 0, 0, 0, 0, 0, 0, 0, 2]);
        let one_bad_line = scraped[9].result.as_ref().expect("it has good lines, too");
        assert_eq!(one_bad_line.counts.dropped(DropReason::Malformed), 1);
    }
    let said = targets.last_scrapes();
    let error = |idx: usize| said[idx].1.as_ref().expect("it was scraped").error.clone();
    assert_eq!(error(0), None);
    let no_metrics =
        "the page has no metrics: line 1, column 1: a metric name was expected".to_owned();
    assert_eq!(error(5), Some(no_metrics));
}

#[tokio::test]
async fn a_kube_proxy_that_nobody_named_is_there_once_it_answers() {
    let address = {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        listener.local_addr().expect("it has an address, for now")
    };
    let remark =
        |targets: &Targets| targets.last_scrapes()[0].1.as_ref().expect("it was scraped").remark;
    let named = targets(&[("kube-proxy", address, "")]);
    assert_eq!(reason(&scrape(&named).await[0]), "connect", "who is named is missed");
    let targets = targets_as(Expected::AsKubeProxy, &[("kube-proxy", address, "")]);
    assert!(scrape(&targets).await.is_empty());
    assert_eq!(remark(&targets), Some(Remark::NotFound));

    let listener = TcpListener::bind(address).await.expect("the port is free again");
    let serving = tokio::spawn(async move {
        let (mut stream, _) = listener.accept().await.expect("somebody connects");
        let mut request = [0; 4096];
        let n_bytes = stream.read(&mut request).await.expect("it asks");
        assert!(n_bytes > 0);
        let answer = answer(&format!("{TEXT}Connection: close\r\n"), PAGE);
        stream.write_all(answer.as_bytes()).await.expect("it listens");
    });
    assert_eq!(scrape(&targets).await[0].meta().n_kept, 2);
    assert_eq!(remark(&targets), None);
    serving.await.expect("the page was served");
    assert_eq!(reason(&scrape(&targets).await[0]), "connect", "now it is missed");
    assert_eq!(remark(&targets), None);
}

#[tokio::test]
async fn where_kube_proxy_is_the_kubelet_no_series_comes_twice() {
    let page = "# TYPE kubelet_node_name gauge\nkubelet_node_name 1\nkubeproxy_x 2\ngo_threads 3\n";
    let both = target(answer(TEXT, page)).await;
    let targets = targets_as(Expected::AsKubeProxy, &[("kube-proxy", both, "")]);
    for _ in 0..2 {
        let scraped = scrape(&targets).await;
        let success = scraped[0].result.as_ref().expect("it answers");
        assert_eq!(success.page.n_samples(), 0);
        assert_eq!(success.counts.dropped(DropReason::OtherTarget), 3);
        assert!(scraped[0].meta().is_up);
        let meta = scraped[0].meta();
        assert_eq!((meta.n_samples, meta.n_kept, meta.n_added), (3, 0, 0));
        let last = targets.last_scrapes()[0].1.clone().expect("it was scraped");
        assert_eq!((last.remark, last.error), (Some(Remark::SameAsKubelet), None));
    }
}

/// The value of a meta series of a job.
fn meta(families: &[PageFamily], name: &str, job: &str) -> f64 {
    let family = families.iter().find(|family| family.desc.name == name).expect("it is there");
    let of_job = family.series.iter().find(|series| series.labels.get("job") == Some(job));
    let series = of_job.expect("each target has one");
    assert_eq!(series.labels.get("node"), Some("n1"));
    assert_eq!(series.labels.get("cluster"), Some("c1"));
    let Value::Number(number) = series.value else { panic!("{name} is a number") };
    number
}

#[tokio::test]
async fn each_target_has_the_series_that_prometheus_keeps_of_one() {
    let good = target(answer(TEXT, PAGE)).await;
    let html = target(answer("Content-Type: text/html\r\n", "<html>")).await;
    let targets = targets(&[("good", good, ""), ("html", html, "")]);
    for n_added in [2.0, 0.0] {
        let scraped = scrape(&targets).await;
        let families = targets.meta_families(&scraped);
        let check = |name, job, expected: f64| {
            assert!((meta(&families, name, job) - expected).abs() < 1e-9, "{name} of {job}");
        };
        check("up", "good", 1.0);
        check("up", "html", 0.0);
        check("scrape_samples_scraped", "good", 2.0);
        check("scrape_samples_post_metric_relabeling", "good", 2.0);
        check("scrape_series_added", "good", n_added);
        check("scrape_body_size_bytes", "good", 32.0);
        check("scrape_samples_scraped", "html", 0.0);
        assert!(meta(&families, "scrape_duration_seconds", "good") > 0.0);
        let pages = scraped.into_iter().filter_map(|scraped| scraped.result.ok());
        let pages = pages.map(|success| success.page).collect();
        let page = Page::merged(families, pages, targets.hasher());
        assert_eq!((page.n_series(), page.n_settled()), (12 + 2, 0));
    }
}
