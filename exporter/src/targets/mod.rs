//! The targets of the relay: each fetched and relayed by itself, all at once, so that a slow or broken one costs only
//! itself.

mod error;

#[cfg(test)]
mod tests;

use std::{
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    time::{Duration, Instant},
};

use tokio::{sync, task, time};
use tracing::warn;

pub use self::error::TargetError;
use crate::{
    config::{
        local::Expected,
        scrape::{self, OnConflict, ScrapeConfig},
    },
    error_chain::one_line,
    labelling::{
        relabel::{Rules, RulesError},
        relay::{
            Counts, DropReason, HonorLabels, LabelLimits, Pods, Relay, Relayed, Settings,
            Timestamps,
            meta::{self, TargetScrape},
        },
    },
    page::{
        PageFamily,
        relayed::{RelayedPage, SeriesHasher},
    },
    source::upstream::{
        client::{Client, error::FetchError},
        exposition::Dialect,
    },
};

/// What targets answer questions about pods with.
pub type SharedPods = Arc<dyn Pods + Send + Sync>;

/// How much of a page is relayed at once: a tenth of a millisecond where its series are known, one where they are new.
const PIECE_BYTES: usize = 64 << 10;

/// After so long, others have their turn on this thread.
const LONG_TURN: Duration = Duration::from_micros(200);

/// How the names of families begin that only a kubelet has.
const KUBELET_FAMILIES: &str = "kubelet_";

/// All targets of the configuration, in its order.
#[derive(Debug)]
pub struct Targets {
    all: Vec<Arc<Target>>,
    /// What the series that are kept of each target get; rules of the page come before external labels.
    meta_labels: Vec<(String, String)>,
    hasher: SeriesHasher,
}

/// One target.
#[derive(Debug)]
struct Target {
    labels: Vec<(String, String)>,
    config: ScrapeConfig,
    /// Whether it ever answered.
    was_found: AtomicBool,
    /// Held while it is scraped; who finds it held waits, as long as it may.
    state: sync::Mutex<State>,
    last: Mutex<Option<LastScrape>>,
}

/// What a target keeps from scrape to scrape.
#[derive(Debug)]
struct State {
    client: Client,
    relay: Relay,
}

/// How the last scrape of a target went, for people.
#[derive(Clone, Debug)]
pub struct LastScrape {
    /// When it ended.
    pub ended: Instant,
    /// How long it took.
    pub duration: Duration,
    /// Why it failed, if it did.
    pub error: Option<String>,
    /// The same in one of few words.
    pub reason: Option<&'static str>,
    /// Why it has no series, where that is as it should be.
    pub remark: Option<Remark>,
    /// The last error and when it was, even if later scrapes succeeded.
    pub last_error: Option<(Instant, String)>,
}

/// Why a target that nobody named has no series.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Remark {
    /// Nothing listens there, and never did.
    NotFound,
    /// It is one process with the kubelet.
    SameAsKubelet,
}

/// What one scrape of one target gave.
#[derive(Debug)]
pub struct Scraped {
    /// The target's `job`.
    pub job: String,
    /// Its labels.
    pub labels: Vec<(String, String)>,
    /// How long it took, fetching and relaying.
    pub duration: Duration,
    /// Its samples and their numbers, or why there are none.
    pub result: Result<Success, TargetError>,
}

/// What a scrape gave.
#[derive(Debug, Default)]
pub struct Success {
    /// The samples.
    pub page: RelayedPage,
    /// How many of what.
    pub counts: Counts,
    /// The size of the page as it came, without compression.
    pub n_body_bytes: usize,
    /// How many series are remembered.
    pub n_cached_series: usize,
}

impl Targets {
    /// The targets that the configuration names; nothing is connected yet.
    ///
    /// `page_rules` are applied behind those of each target. A target that is as it was `before`, under the same rules
    /// and labels of the page, is taken over with what it remembers; `hasher` is the same then.
    pub fn new(
        configs: &[ScrapeConfig],
        page_rules: &Arc<Rules>,
        external_labels: &[(String, String)],
        node_name: &str,
        hasher: SeriesHasher,
        before: Option<&Self>,
    ) -> Result<Self, RulesError> {
        let target = |config: &ScrapeConfig| -> Result<Arc<Target>, RulesError> {
            let known = before.and_then(|before| before.target(config));
            if let Some(known) = known {
                return Ok(Arc::clone(known));
            }
            let settings = settings(config, page_rules, external_labels, node_name)?;
            let labels = settings.labels.clone();
            let state = State {
                client: Client::new(config.client.clone()),
                relay: Relay::new(settings, hasher.clone()),
            };
            Ok(Arc::new(Target {
                labels,
                config: config.clone(),
                was_found: AtomicBool::new(false),
                state: sync::Mutex::new(state),
                last: Mutex::new(None),
            }))
        };
        let all = configs.iter().map(target).collect::<Result<_, _>>()?;
        let meta_labels = if page_rules.is_empty() { external_labels } else { &[] };
        Ok(Self { all, meta_labels: meta_labels.to_vec(), hasher })
    }

    fn target(&self, config: &ScrapeConfig) -> Option<&Arc<Target>> {
        self.all.iter().find(|target| target.config == *config)
    }

    /// What the series of all targets are compared by.
    #[must_use]
    pub fn hasher(&self) -> &SeriesHasher {
        &self.hasher
    }

    /// The names of all targets, in the order of the configuration.
    pub fn jobs(&self) -> impl Iterator<Item = &str> {
        self.all.iter().map(|target| target.job())
    }

    /// Scrapes those that are wanted at once; the answers are in the order of the configuration.
    pub async fn scrape(
        &self,
        pods: &SharedPods,
        is_wanted: impl Fn(&str) -> bool,
        deadline: Instant,
    ) -> Vec<Scraped> {
        let running: Vec<_> = self
            .all
            .iter()
            .filter(|target| is_wanted(target.job()))
            .map(|target| {
                let (scraped, pods) = (Arc::clone(target), Arc::clone(pods));
                (target, task::spawn(async move { scraped.scrape(pods, deadline).await }))
            })
            .collect();
        let mut scraped = Vec::with_capacity(running.len());
        for (target, task) in running {
            scraped.extend(task.await.unwrap_or_else(|error| {
                warn!(target = target.job(), %error, "scraping panicked, which is a bug");
                target.note(Duration::ZERO, Err(TargetError::Panicked))
            }));
        }
        scraped
    }

    /// `up` and the other series that Prometheus keeps of each target.
    #[must_use]
    pub fn meta_families(&self, scraped: &[Scraped]) -> Vec<PageFamily> {
        let scrapes: Vec<_> = scraped.iter().map(Scraped::meta).collect();
        if scrapes.is_empty() {
            return Vec::new();
        }
        meta::families(&scrapes, &self.meta_labels)
    }

    /// Jobs and how their last scrapes went, in the order of the configuration.
    #[must_use]
    pub fn last_scrapes(&self) -> Vec<(&str, Option<LastScrape>)> {
        let last = |target: &Arc<Target>| {
            target.last.lock().unwrap_or_else(PoisonError::into_inner).clone()
        };
        self.all.iter().map(|target| (target.job(), last(target))).collect()
    }
}

impl Target {
    fn job(&self) -> &str {
        &self.config.job_name
    }

    async fn scrape(&self, pods: SharedPods, deadline: Instant) -> Option<Scraped> {
        let began = Instant::now();
        let limit = deadline.saturating_duration_since(began).min(self.config.timeout);
        // Another page may be waiting for the same target, or an earlier one may still be at it.
        let state = time::timeout(limit, self.state.lock()).await;
        let limit = limit.saturating_sub(began.elapsed());
        let result = match state {
            // Its own time limit ends the fetch; this one is for all that comes behind.
            Ok(mut state) => match time::timeout(2 * limit, state.scrape(&*pods, limit)).await {
                Ok(result) => result,
                Err(_elapsed) => Err(TargetError::Busy),
            },
            Err(_held) => Err(TargetError::Busy),
        };
        self.note(began.elapsed(), result)
    }

    /// What is to be said of a target that nobody named. Where it is one process with the kubelet, each page has the
    /// series of both, and the kubelet's stay.
    fn remark(&self, result: &mut Result<Success, TargetError>) -> Option<Remark> {
        if self.config.expected == Expected::Surely {
            return None;
        }
        match result {
            Err(TargetError::Fetch(FetchError::Connect(_))) => {
                let was_found = self.was_found.load(Ordering::Relaxed);
                (!was_found).then_some(Remark::NotFound)
            }
            Err(_) => None,
            Ok(success) => {
                self.was_found.store(true, Ordering::Relaxed);
                let mut families = success.page.runs.iter().map(|run| &run.family.name);
                if !families.any(|name| name.starts_with(KUBELET_FAMILIES)) {
                    return None;
                }
                success.page = RelayedPage::default();
                success.counts.drop_kept(DropReason::OtherTarget);
                Some(Remark::SameAsKubelet)
            }
        }
    }

    /// Remembers how a scrape went, and says so where something is new; gives nothing for a target that is not there.
    fn note(
        &self,
        duration: Duration,
        mut result: Result<Success, TargetError>,
    ) -> Option<Scraped> {
        let ended = Instant::now();
        let remark = self.remark(&mut result);
        if remark == Some(Remark::NotFound) {
            let last =
                LastScrape { ended, duration, error: None, reason: None, remark, last_error: None };
            *self.last.lock().unwrap_or_else(PoisonError::into_inner) = Some(last);
            return None;
        }
        let error = result.as_ref().err().map(|error| one_line(error));
        let mut last = self.last.lock().unwrap_or_else(PoisonError::into_inner);
        let before = last.take();
        // Once: the text may have another number in it each time.
        let reason = result.as_ref().err().map(TargetError::reason);
        let was = before.as_ref().and_then(|last| last.reason);
        if let Some(error) = &error
            && was != reason
        {
            warn!(target = self.job(), %error, "target failed");
        }
        let last_error = match &error {
            Some(error) => Some((ended, error.clone())),
            None => before.and_then(|last| last.last_error),
        };
        *last = Some(LastScrape { ended, duration, error, reason, remark, last_error });
        Some(Scraped { job: self.job().to_owned(), labels: self.labels.clone(), duration, result })
    }
}

impl Remark {
    /// For people.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::NotFound => "not found: nothing has answered there since the start",
            Self::SameAsKubelet => {
                "one process with the kubelet, as in k3s: its series come from the kubelet's page"
            }
        }
    }
}

impl State {
    /// Fetches one page and relays what has come of it while the rest is on its way.
    async fn scrape(
        &mut self,
        pods: &(dyn Pods + Send + Sync),
        limit: Duration,
    ) -> Result<Success, TargetError> {
        let Self { client, relay } = self;
        let mut answer = client.fetch(limit).await?;
        let dialect = match answer.content_type() {
            Some(content_type) => Dialect::of_content_type(content_type).ok_or_else(|| {
                TargetError::ContentType { content_type: content_type.to_owned() }
            })?,
            None => return Err(TargetError::NoContentType),
        };
        let mut incoming = relay.begin(dialect, pods);
        while let Some(bytes) = answer.next().await? {
            for piece in bytes.chunks(PIECE_BYTES) {
                let began = Instant::now();
                relay.take(&mut incoming, piece, pods)?;
                if began.elapsed() > LONG_TURN {
                    task::yield_now().await;
                }
            }
        }
        let Relayed { page, counts, first_fault } = relay.end(incoming, pods)?;
        if let Some(fault) = first_fault {
            tracing::debug!(error = %fault, "a line of a target's page is none");
        }
        let (n_body_bytes, n_cached_series) = (answer.n_bytes(), relay.n_series());
        Ok(Success { page, counts, n_body_bytes, n_cached_series })
    }
}

impl Scraped {
    /// The numbers that Prometheus keeps of each scrape.
    #[must_use]
    pub fn meta(&self) -> TargetScrape {
        let numbers = self.result.as_ref().ok();
        TargetScrape {
            labels: self.labels.clone(),
            is_up: numbers.is_some(),
            seconds: self.duration.as_secs_f64(),
            n_samples: numbers.map_or(0, |success| success.counts.n_samples),
            n_kept: numbers.map_or(0, |success| success.counts.n_kept),
            n_added: numbers.map_or(0, |success| success.counts.n_added),
            n_body_bytes: numbers.map_or(0, |success| success.n_body_bytes),
        }
    }
}

/// What a target's configuration says to its relay; the rules of the page are applied behind its own.
pub fn settings(
    config: &ScrapeConfig,
    page_rules: &Arc<Rules>,
    external_labels: &[(String, String)],
    node_name: &str,
) -> Result<Settings, RulesError> {
    Ok(Settings {
        labels: vec![
            ("job".to_owned(), config.job_name.clone()),
            ("node".to_owned(), node_name.to_owned()),
        ],
        external_labels: external_labels.to_vec(),
        rules: vec![Arc::new(Rules::new(&config.rules)?), Arc::clone(page_rules)],
        honor_labels: match config.on_conflict {
            OnConflict::Rename => HonorLabels::Rename,
            OnConflict::HonorTarget => HonorLabels::Keep,
        },
        timestamps: match config.timestamps {
            scrape::Timestamps::Honored => Timestamps::Honored,
            scrape::Timestamps::Dropped => Timestamps::LeftOut,
        },
        sample_limit: config.limits.samples,
        label_limits: LabelLimits {
            labels: config.limits.labels,
            name_bytes: config.limits.label_name_bytes,
            value_bytes: config.limits.label_value_bytes,
        },
        ..Settings::default()
    })
}
