//! Receivers come, change and go while Podmeter runs: each has every page from its first to its last, once.

use std::{slice, time::Duration};

use podmeter_tests::{
    cgroup::wait_for,
    exporter::Exporter,
    receiver::{Kind, Receiver, Samples},
};
use rustix::process::Signal;

use super::{
    MORE, assert_all_arrived, config, config_of, item, landing, number, number_of, own_page,
    received_of_source, setup, setup_both,
    source::{Source, last_number, numbers},
    wait_for_pages,
};

const SENT: &str = "podmeter_remote_write_samples_total";

/// Writes another configuration, says so by a signal, and waits until it is in force.
fn reload(exporter: &Exporter, config: &str) {
    const TIME: &str = "podmeter_config_last_reload_success_timestamp_seconds";
    let before = number(&own_page(exporter), TIME);
    exporter.configure(config);
    exporter.signal(Signal::HUP);
    wait_for("it is in force", || number(&own_page(exporter), TIME) > before);
}

#[test]
fn receivers_come_change_and_go() {
    let Some((binary, [one, two])) = setup_both() else { return };
    let source = Source::start();
    let first = item(&one.write_url(), ", name: one");
    let changed = format!(", name: one, protobuf_message: {}", "io.prometheus.write.v2.Request");
    let first_changed = item(&one.write_url(), &changed);
    let second = item(&two.write_url(), ", name: two");
    let of_one = [("remote_name", "one")];

    let exporter = Exporter::start(&binary, &config_of(&source, slice::from_ref(&first)));
    wait_for_pages(&source, 3);
    assert!(landing(&exporter).contains("<td>one</td>"));
    let n_before = source.n_pages();
    reload(&exporter, &config_of(&source, &[first, second.clone()]));
    wait_for_pages(&source, 3);
    assert!(landing(&exporter).contains("<td>two</td>"));
    let mut n_sent = 0.0;
    wait_for("it has taken some", || {
        n_sent = number_of(&own_page(&exporter), SENT, &of_one);
        n_sent > 0.0
    });
    reload(&exporter, &config_of(&source, &[first_changed, second.clone()]));
    wait_for_pages(&source, 3);
    assert!(number_of(&own_page(&exporter), SENT, &of_one) >= n_sent, "counters go on");
    let n_of_both = source.n_pages();
    reload(&exporter, &config_of(&source, &[second]));
    let n_of_one = source.n_pages();
    wait_for_pages(&source, 3);
    assert!(!landing(&exporter).contains("<td>one</td>"));
    let page = own_page(&exporter);
    assert!(!page.contains("remote_name=\"one\""), "{page}");
    assert!(number_of(&page, SENT, &[("remote_name", "two")]) > 0.0, "{page}");
    let (_, log) = source.terminate(exporter);
    let n_through = log.matches("all samples were sent").count();
    assert_eq!(
        n_through, 3,
        "one that was changed, one that was taken off, one that stayed: {log}"
    );

    let mut reports = Vec::new();
    for receiver in [&one, &two] {
        let mut received = Samples::new();
        // VictoriaMetrics shows what it has taken a moment later.
        wait_for("it has the last page", || {
            received = received_of_source(receiver);
            let last = last_number(&received);
            last >= if receiver.kind() == Kind::Prometheus {
                n_of_both - 1
            } else {
                source.n_pages()
            }
        });
        let pages = numbers(&received);
        source.assert_same(receiver.kind(), &received, &source.expected_of(pages.clone(), MORE));
        reports.push(pages);
    }
    assert_eq!(*reports[0].start(), 1);
    assert!((n_of_both - 1..=n_of_one).contains(reports[0].end()), "{reports:?}");
    assert!((n_before..=n_before + 2).contains(reports[1].start()), "{reports:?}");
    assert_eq!(*reports[1].end(), source.n_pages());
    println!(
        "report: remote write | receivers come, change and go | one has pages {:?}, two has pages {:?}, all equal",
        reports[0], reports[1]
    );
}

/// A header that changes nothing but the configuration; each page is sent at once.
fn turn(idx: usize) -> String {
    format!(", headers: {{ X-Turn: t{idx} }}, queue_config: {{ batch_send_deadline: 100ms }}")
}

/// Each reload comes in the middle of a page.
#[test]
fn a_page_that_is_under_way_at_a_reload_is_pushed() {
    const N_RELOADS: usize = 15;

    let Some((binary, receiver)) = setup(Kind::Prometheus) else { return };
    let source = Source::start_slow(Duration::from_millis(100));
    let exporter = Exporter::start(&binary, &config(&source, &receiver, &turn(0)));
    for idx in 1..=N_RELOADS {
        wait_for_pages(&source, 1);
        exporter.configure(&config(&source, &receiver, &turn(idx)));
        exporter.signal(Signal::HUP);
    }
    wait_for_pages(&source, 2);
    let (_, log) = source.terminate(exporter);
    let n_receivers = log.matches("all samples were sent").count();
    // Two changes that come close to each other may be one.
    assert!((N_RELOADS / 2..=N_RELOADS + 1).contains(&n_receivers), "{n_receivers}: {log}");
    assert_all_arrived(&format!("{N_RELOADS} reloads"), &source, &receiver);
}

#[test]
fn a_change_while_both_receivers_are_away_loses_and_doubles_nothing() {
    let Some((binary, mut receivers)) = setup_both() else { return };
    let source = Source::start();
    let urls = receivers.each_ref().map(Receiver::write_url);
    let config = |idx| config_of(&source, &urls.each_ref().map(|url| item(url, &turn(idx))));
    let exporter = Exporter::start(&binary, &config(0));
    wait_for_pages(&source, 2);
    receivers.iter_mut().for_each(Receiver::stop);
    wait_for_pages(&source, 3);
    reload(&exporter, &config(1));
    wait_for_pages(&source, 2);
    receivers.iter_mut().for_each(Receiver::start_again);
    wait_for_pages(&source, 2);
    let (_, log) = source.terminate(exporter);
    assert_eq!(log.matches("all samples were sent").count(), 4, "two of each: {log}");
    for receiver in &receivers {
        let case = format!("{:?}, changed while it is away", receiver.kind());
        assert_all_arrived(&case, &source, receiver);
    }
}
