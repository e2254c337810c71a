//! Clients by the thousand, and clients that do not read what they have asked for.

use std::{
    io::{Read as _, Write as _},
    net::TcpStream,
    process::Command,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    thread,
    time::{Duration, Instant},
};

use podmeter_tests::{
    cgroup::wait_for,
    client::{
        SCRAPE, begin_connect, connect_from, connect_narrow, loopback, may_open, scrape,
        socket_address,
    },
    exposition::Exposition,
    skip::skipped,
    tools::podmeter,
    whole::{JOBS, Whole},
};

/// Clients that say nothing.
const N_CLIENTS: u16 = 2000;

/// Connections of one address that are open at once, and places for scrapes, as the server has them.
const N_OF_ADDRESS: u16 = 64;
const N_PLACES: u16 = 8;

/// The scraper's own address.
fn scraper() -> std::net::Ipv4Addr {
    loopback(1)
}

#[test]
fn two_thousand_clients_of_one_address_keep_nobody_else_out() {
    let Some(whole) = Whole::start() else { return };
    if !may_open(u64::from(N_CLIENTS) + 200) {
        return skipped(format_args!("this process may not open {N_CLIENTS} files"));
    }
    let address = socket_address(whole.exporter.address());
    let crowd: Vec<TcpStream> =
        (0..N_CLIENTS).map(|_| connect_from(loopback(2), address)).collect();
    let (status, body) = scrape(scraper(), address);
    assert_eq!(status, 200, "{body}");
    let page = Exposition::parse(&body);
    assert!(page.sum("up", &[]) >= Some(JOBS.len() as f64), "the page is whole");
    let expected = f64::from(N_CLIENTS - N_OF_ADDRESS);
    wait_for("all that are too many are closed and counted", || {
        whole.page().n_limit_hits("connections_of_address") >= expected
    });
    // Those that were let in say nothing for too long.
    wait_for("those that say nothing are cut off and counted", || {
        whole.page().n_limit_hits("header_time") >= f64::from(N_OF_ADDRESS)
    });
    let (status, _) = scrape(loopback(2), address);
    assert_eq!(status, 200, "the address itself is served again");
    let after = whole.page();
    println!(
        "report: faults | {N_CLIENTS} clients of one address | served: another address at once | counted: {} connections_of_address, {} header_time | healed at scrape 1",
        after.n_limit_hits("connections_of_address"),
        after.n_limit_hits("header_time")
    );
    drop(crowd);
}

#[test]
fn two_thousand_clients_of_many_addresses_make_room_for_a_scraper() {
    let Some(whole) = Whole::start() else { return };
    if !may_open(u64::from(N_CLIENTS) + 200) {
        return skipped(format_args!("this process may not open {N_CLIENTS} files"));
    }
    let address = socket_address(whole.exporter.address());
    // So many of each address as are let in.
    let from = |idx: u16| loopback(100 + idx / N_OF_ADDRESS);
    let crowd: Vec<TcpStream> =
        (0..N_CLIENTS).map(|idx| begin_connect(from(idx), address)).collect();
    let asked = Instant::now();
    let (status, body) = scrape(scraper(), address);
    let waited = asked.elapsed();
    assert_eq!(status, 200, "{body}");
    let page = Exposition::parse(&body);
    assert!(page.sum("up", &[]) >= Some(JOBS.len() as f64), "the page is whole");
    drop(crowd);
    wait_for("the crowd has gone", || scrape(scraper(), address).0 == 200);
    let after = whole.page();
    let n_full = after.n_limit_hits("connections");
    assert!(n_full >= 1.0, "it is counted that all connections were taken");
    println!(
        "report: faults | {N_CLIENTS} clients of {} addresses | served: the scraper behind them, after {:.1} s | counted: {n_full} connections, {} header_time",
        N_CLIENTS.div_ceil(N_OF_ADDRESS),
        waited.as_secs_f64(),
        after.n_limit_hits("header_time")
    );
}

/// Half of the places are taken by clients that read nothing of a page which the kernel cannot take for them, and then all.
#[test]
fn slow_readers_hold_up_nobody_and_are_cut() {
    let Some(binary) = podmeter() else { return };
    let whole = Whole::start_large(Command::new(binary));
    let address = socket_address(whole.exporter.address());
    let ask = |idx: u16| {
        let mut stream = connect_narrow(loopback(10 + idx), address);
        stream.write_all(SCRAPE).expect("it reads");
        stream
    };
    let mut slow: Vec<TcpStream> = (0..N_PLACES / 2).map(ask).collect();
    for _ in 0..2 {
        let page = whole.page();
        assert_eq!(page.n_up(), whole.around.n_targets(), "the places that are left serve");
    }
    // They are cut off after a while, so that it takes as many at once as there are places.
    let mut n_refused = 0.0;
    wait_for("who comes when all places are taken is told so", || {
        slow.extend((0..N_PLACES).map(ask));
        let (status, body) = scrape(scraper(), address);
        if status == 503 {
            assert!(body.contains("too many scrapes run at once"), "{body:.200}");
            n_refused += 1.0;
        }
        status == 503
    });
    wait_for("they are cut off, and the next scrape is served", || {
        let (status, body) = scrape(scraper(), address);
        n_refused += f64::from(u8::from(status == 503));
        status == 200 && cut(&Exposition::parse(&body)) >= f64::from(N_PLACES)
    });
    let page = whole.page();
    let n_counted = page.n_limit_hits("scrapes");
    assert!(n_counted >= n_refused, "each 503 is counted: {n_counted} of {n_refused}");
    println!(
        "report: faults | {} readers that do not read | served: whole pages while a place is left, then 503 | counted: {n_counted} scrapes, {} cut | healed at the first scrape after the cut",
        slow.len(),
        cut(&page.0)
    );
}

/// Clients that were cut off for reading too slowly.
fn cut(page: &Exposition) -> f64 {
    let hits = |limit| page.sum("podmeter_http_limit_hits_total", &[("limit", limit)]);
    ["write_stall_time", "scrape_time"].into_iter().filter_map(hits).sum()
}

/// A reader that takes a little every now and then is never still for long; it is cut when the whole has taken too long.
#[test]
fn a_reader_that_drips_is_cut_in_the_end() {
    let Some(binary) = podmeter() else { return };
    let whole = Whole::start_large(Command::new(binary));
    let address = socket_address(whole.exporter.address());
    let mut stream = connect_narrow(loopback(1), address);
    stream.write_all(SCRAPE).expect("it reads");
    let is_cut = Arc::new(AtomicBool::new(false));
    let until = Arc::clone(&is_cut);
    let dripping = thread::spawn(move || {
        let mut n_bytes = 0;
        let mut buffer = [0; 2048];
        // What the kernel has for it would last for many minutes more.
        while !until.load(Ordering::Relaxed) {
            n_bytes += stream.read(&mut buffer).expect("there is more of the page");
            thread::sleep(Duration::from_millis(500));
        }
        n_bytes
    });
    let mut n_whole = 0;
    wait_for("it has been cut off", || {
        let page = whole.page();
        assert_eq!(page.n_up(), whole.around.n_targets(), "others have whole pages");
        n_whole += 1;
        thread::sleep(Duration::from_millis(500));
        cut(&page.0) >= 1.0
    });
    is_cut.store(true, Ordering::Relaxed);
    let n_bytes = dripping.join().expect("it ends");
    println!(
        "report: faults | a reader that drips | served: {n_whole} whole pages to others | counted: 1 cut, after {n_bytes} bytes"
    );
}
