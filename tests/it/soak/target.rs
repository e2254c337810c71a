//! Pages of a target whose series come and go, with series of pods that do; what it counts depends on the time alone, so
//! that none of it ever falls.

use std::{fmt::Write as _, net::SocketAddr, sync::Arc, time::Instant};

use podmeter_tests::{
    live_pods::{LivePods, NAMESPACE},
    page_server::serve,
    target::recorded,
    whole::VERSION,
};

/// The page that changes.
pub(super) const CHANGING: &str = "changing";

/// Series of which a quarter is missing at any time.
const N_ITEMS: u64 = 60;

/// Series that are there for some seconds, and never again.
const N_OF_GENERATION: u64 = 20;
const GENERATION_SECONDS: u64 = 2;

/// As many again as the rest of the page has, for some seconds of each period.
const N_OF_BURST: u64 = 2000;
const BURST_SECONDS: u64 = 5;
const BURST_EVERY_SECONDS: u64 = 15;

/// Serves it beside the recorded pages.
pub(super) fn start(pods: Arc<LivePods>) -> SocketAddr {
    let began = Instant::now();
    serve("text/plain; version=0.0.4; charset=utf-8", move |path| {
        match path.trim_start_matches('/') {
            CHANGING => page(began.elapsed().as_secs(), &pods.names()),
            name => recorded(VERSION, name),
        }
        .into_bytes()
    })
}

fn page(second: u64, pods: &[String]) -> String {
    let mut page = String::new();
    let mut line = |text: String| writeln!(page, "{text}").expect("a string takes all");
    line("# HELP soak_items_total Come and go.\n# TYPE soak_items_total counter".into());
    for item in (0..N_ITEMS).filter(|item| !(item + second / 3).is_multiple_of(4)) {
        line(format!("soak_items_total{{item=\"{item}\"}} {}", second * (item + 1)));
    }
    line("# TYPE soak_duration_seconds histogram".into());
    for route in ["read", "write"] {
        for bound in ["0.1", "1", "+Inf"] {
            line(format!(
                "soak_duration_seconds_bucket{{route=\"{route}\",le=\"{bound}\"}} {second}"
            ));
        }
        line(format!("soak_duration_seconds_sum{{route=\"{route}\"}} {}", second / 2));
        line(format!("soak_duration_seconds_count{{route=\"{route}\"}} {second}"));
    }
    line("# TYPE soak_generation_info gauge".into());
    let generation = second / GENERATION_SECONDS;
    for idx in 0..N_OF_GENERATION {
        line(format!("soak_generation_info{{generation=\"{generation}\",idx=\"{idx}\"}} 1"));
    }
    if second % BURST_EVERY_SECONDS < BURST_SECONDS {
        line("# TYPE soak_burst gauge".into());
        let burst = second / BURST_EVERY_SECONDS;
        for idx in 0..N_OF_BURST {
            line(format!("soak_burst{{burst=\"{burst}\",idx=\"{idx}\"}} {second}"));
        }
    }
    line("# TYPE soak_requests_total counter".into());
    for pod in pods {
        line(format!(
            "soak_requests_total{{namespace=\"{NAMESPACE}\",pod=\"{pod}\",container=\"main\"}} {second}"
        ));
    }
    page
}
