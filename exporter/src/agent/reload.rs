//! Another configuration in the place of the one in force: made whole beside it, then swapped between two pages.

use std::{
    collections::HashSet,
    sync::{Arc, PoisonError},
    time::{Duration, Instant, SystemTime},
};

use tokio::task;
use tracing::{info, warn};

use super::{Agent, SourceRun, StartError, active::Active, collect::NAMES_GRACE};
use crate::{
    attribution::Snapshot,
    config::{Config, ConfigError},
    error_chain::one_line,
    source::{gather::SourceSlot, probe::PROBES},
};

/// How long sending what waits for a receiver may take that the next configuration does not have.
const CLOSING: Duration = Duration::from_secs(15);

/// The same for one whose buffer the next one may be waiting for.
const HAND_OVER: Duration = Duration::from_secs(2);

/// Why the configuration before stays in force.
#[derive(Debug, thiserror::Error)]
pub enum ReloadError {
    /// There is none.
    #[error(transparent)]
    Config(#[from] ConfigError),
    /// It changes what cannot change.
    #[error(
        "{} cannot change while Podmeter runs: restart it (in a cluster: kubectl rollout restart), or set it back",
        keys.join(", ")
    )]
    NeedsRestart {
        /// The keys.
        keys: Vec<&'static str>,
    },
    /// It asks for what is not there.
    #[error(transparent)]
    Start(#[from] StartError),
    /// Its parts panicked.
    #[error("taking the configuration ended early, which is a bug")]
    Panicked(#[from] task::JoinError),
}

/// The configuration in force, and what became of later ones.
#[derive(Clone, Debug)]
pub struct ConfigStatus {
    /// When it came into force.
    pub since: Instant,
    /// When a later one was refused, and why, if the last one was.
    pub refused: Option<(Instant, String)>,
}

impl Agent {
    /// Takes a configuration, or why there is none; one that cannot hold as a whole changes nothing, and is told of by
    /// [`Agent::config_status`] and in the log.
    pub async fn reload(
        self: &Arc<Self>,
        config: Result<Config, ConfigError>,
    ) -> Result<(), ReloadError> {
        let _one_at_a_time = self.reloading.lock().await;
        let taken = match config {
            Ok(config) => self.take(config).await,
            Err(error) => Err(error.into()),
        };
        match &taken {
            Ok(()) => info!("the configuration is in force"),
            Err(error) => {
                let error = one_line(error);
                warn!(%error, "the configuration is refused, and the one before stays in force");
            }
        }
        self.note_reload(taken.as_ref().map_err(|error| one_line(error)).copied());
        taken
    }

    /// How it stands with the configuration.
    pub fn config_status(&self) -> ConfigStatus {
        self.config_status.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    async fn take(self: &Arc<Self>, config: Config) -> Result<(), ReloadError> {
        let before = self.active();
        let keys = fixed(&before.config, &config);
        if !keys.is_empty() {
            return Err(ReloadError::NeedsRestart { keys });
        }
        let (agent, made_of) = (Arc::clone(self), Arc::clone(&before));
        let make = move || Active::make(config, Some(&made_of), &agent.privileged);
        let next = task::spawn_blocking(make).await??;
        if let Some(pods) = &next.kubernetes
            && !pods.is_same_as(before.kubernetes.as_ref())
        {
            // The page goes on with the names that it had.
            pods.api.wait_settled(Instant::now() + NAMES_GRACE).await;
        }
        self.swap(&before, next).await
    }

    /// Pages that are being made end first, by the configuration that they began with.
    async fn swap(&self, before: &Active, next: Active) -> Result<(), ReloadError> {
        let _no_page = self.pages_made.write().await;
        self.metrics.follow_kubernetes(next.kubernetes.is_some()).map_err(StartError::from)?;
        self.metrics.record_probes(&next.probes);
        let stopped = stopped(before, &next);
        for def in PROBES.iter().filter(|def| stopped.contains(def.name)) {
            self.metrics.forget_source(def.name);
        }
        let jobs: HashSet<_> = next.targets.jobs().collect();
        for job in before.targets.jobs().filter(|job| !jobs.contains(job)) {
            self.metrics.forget_target(job);
        }
        {
            let mut naming = self.naming();
            let pods = Arc::clone(naming.snapshot.shared_pods());
            let rules = next.config.kubernetes.labels.clone();
            naming.labeller.reconfigure(next.own_external_labels(), rules, &pods);
            let families = PROBES.iter().filter(|def| stopped.contains(def.name));
            let families = families.flat_map(|def| def.metrics).map(|desc| desc.name);
            naming.labeller.forget(families);
            if next.kubernetes.is_none() {
                naming.snapshot = Snapshot::default();
            }
        }
        self.follow_runs(&next);
        let closed = before
            .endpoints
            .iter()
            .filter(|known| !next.endpoints.iter().any(|endpoint| Arc::ptr_eq(endpoint, known)));
        let closed: Vec<_> = closed.map(Arc::clone).collect();
        let names: HashSet<_> =
            next.endpoints.iter().map(|one| one.config().name.as_str()).collect();
        let gone = closed.iter().map(|endpoint| &endpoint.config().name);
        for name in gone.filter(|name| !names.contains(name.as_str())) {
            self.metrics.forget_receiver(name);
        }
        *self.active.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(next);
        // Behind the swap, so that whoever finds one closed finds the next one in its place.
        for endpoint in closed {
            let time = if endpoint.config().buffer.is_some() { HAND_OVER } else { CLOSING };
            task::spawn(endpoint.close(Instant::now() + time));
        }
        self.reloads.send_replace(());
        Ok(())
    }

    /// Sources that stay keep how their last collection went.
    fn follow_runs(&self, next: &Active) {
        let mut runs = self.runs.lock().unwrap_or_else(PoisonError::into_inner);
        let names = next.probe_slots().iter().chain(&self.host_slots).map(SourceSlot::name);
        let run = |name| {
            let known = runs.iter().find(|run| run.name == name).cloned();
            known.unwrap_or_else(|| SourceRun::none(name))
        };
        *runs = names.map(run).collect();
    }

    fn note_reload(&self, taken: Result<(), String>) {
        let mut status = self.config_status.lock().unwrap_or_else(PoisonError::into_inner);
        let now = Instant::now();
        match taken {
            Ok(()) => {
                *status = ConfigStatus { since: now, refused: None };
                self.metrics.record_config(Some(seconds_since_epoch()));
            }
            Err(error) => {
                status.refused = Some((now, error));
                self.metrics.record_config(None);
            }
        }
    }
}

/// The time of a gauge; a clock before 1970 is one that says nothing.
pub(super) fn seconds_since_epoch() -> f64 {
    let since = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH);
    since.map_or(0.0, |since: Duration| since.as_secs_f64())
}

/// Probes that were attached and are so no more.
fn stopped(before: &Active, next: &Active) -> HashSet<&'static str> {
    let attached = |active: &Active| -> HashSet<&'static str> {
        active.probe_slots().iter().map(SourceSlot::name).collect()
    };
    &attached(before) - &attached(next)
}

/// The keys that differ and are looked at only at the start.
fn fixed(before: &Config, next: &Config) -> Vec<&'static str> {
    let keys = [
        ("`listen`", before.listen != next.listen),
        ("`web`", before.web != next.web),
        ("`cgroups.max_tracked`", before.max_cgroups != next.max_cgroups),
        ("`paths`", before.paths != next.paths),
    ];
    keys.into_iter().filter(|(_, differs)| *differs).map(|(key, _)| key).collect()
}

#[cfg(test)]
mod tests {
    use super::fixed;
    use crate::config::Config;

    #[test]
    fn what_cannot_follow_is_named() {
        let parse = |yaml: &str| Config::parse(yaml, "f", &|_| None).unwrap();
        let check = |yaml, expected: &[&str]| {
            assert_eq!(fixed(&Config::default(), &parse(yaml)), expected);
        };
        check("node_name: n\nexternal_labels: { a: b }", &[]);
        check("listen: 127.0.0.1:1", &["`listen`"]);
        check(
            "cgroups: { max_tracked: 5 }\npaths: { procfs: /p }",
            &["`cgroups.max_tracked`", "`paths`"],
        );
    }
}
