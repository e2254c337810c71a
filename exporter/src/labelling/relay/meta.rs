//! What Prometheus says of each target that it scrapes, said here of the targets of the relay. Pure.

use crate::{
    metric::{Desc, Kind, Value},
    page::{Labels, PageFamily, Series},
};

/// What one scrape of one target came to.
#[derive(Clone, Debug, PartialEq)]
pub struct TargetScrape {
    /// `job`, `node`, and the external ones behind them.
    pub labels: Vec<(String, String)>,
    /// Whether it gave its page.
    pub is_up: bool,
    /// How long it took.
    pub seconds: f64,
    /// Samples that came.
    pub n_samples: usize,
    /// Samples that are served.
    pub n_kept: usize,
    /// Series among them that were not on the page before.
    pub n_added: usize,
    /// The size of the page.
    pub n_body_bytes: usize,
}

/// The families, in the order of the documentation.
pub const METRICS: &[&Desc] = &[&UP, &DURATION, &SAMPLES, &KEPT, &ADDED, &BODY];

static UP: Desc = gauge("up", "Whether the target gave its page (1) or not (0).", "");
static DURATION: Desc = gauge(
    "scrape_duration_seconds",
    "How long fetching and relaying the target's page took.",
    "seconds",
);
static SAMPLES: Desc = gauge("scrape_samples_scraped", "Samples on the target's page.", "");
static KEPT: Desc = gauge(
    "scrape_samples_post_metric_relabeling",
    "Samples of the target's page that are served.",
    "",
);
static ADDED: Desc = gauge(
    "scrape_series_added",
    "Series of the target's page that are served and were not on the page before.",
    "",
);
static BODY: Desc =
    gauge("scrape_body_size_bytes", "Size of the target's page without compression.", "bytes");

const fn gauge(name: &'static str, help: &'static str, unit: &'static str) -> Desc {
    let (labels, origin): (&[&str], _) = (&["job", "node"], "the scrape of the target");
    Desc { name, help, kind: Kind::Gauge, unit, labels, origin }
}

/// The families of all targets.
#[must_use]
pub fn families(scrapes: &[TargetScrape], external_labels: &[(String, String)]) -> Vec<PageFamily> {
    let family = |desc: &'static Desc, number: fn(&TargetScrape) -> f64| {
        let series = scrapes.iter().map(|scrape| {
            let labels = scrape.labels.iter().chain(external_labels);
            let labels = labels.map(|(name, value)| (name.clone().into(), value.as_str().into()));
            let value = Value::Number(number(scrape));
            Series { labels: Labels::first_wins(labels), value }
        });
        PageFamily { desc, series: series.collect() }
    };
    vec![
        family(&UP, |scrape| f64::from(u8::from(scrape.is_up))),
        family(&DURATION, |scrape| scrape.seconds),
        family(&SAMPLES, |scrape| float(scrape.n_samples)),
        family(&KEPT, |scrape| float(scrape.n_kept)),
        family(&ADDED, |scrape| float(scrape.n_added)),
        family(&BODY, |scrape| float(scrape.n_body_bytes)),
    ]
}

#[expect(clippy::cast_precision_loss, reason = "a page has far fewer than 2^53 bytes and samples")]
fn float(n: usize) -> f64 {
    n as f64
}
