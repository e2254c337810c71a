//! What Podmeter tells of its conversation with the Kubernetes API.

use std::time::Instant;

use prometheus::{Error, Gauge, IntCounterVec, IntGauge, IntGaugeVec, Registry, core::Collector};

use super::{Register, rise_to};
use crate::{
    attribution::kubernetes::{KubernetesStatus, SyncState},
    metric::{Desc, Kind},
};

pub(super) static STATE: Desc = desc(
    "podmeter_kubernetes_state",
    "Whether that is how it stands with the Kubernetes API.",
    Kind::Gauge,
    "",
    &["state"],
    "the watch of this node's pods",
);
pub(super) static SYNCED: Desc = desc(
    "podmeter_kubernetes_synced",
    "Whether all pods of this node were read at least once.",
    Kind::Gauge,
    "",
    &[],
    "the watch of this node's pods",
);
pub(super) static EVENT_AGE: Desc = desc(
    "podmeter_kubernetes_last_event_age_seconds",
    "How long ago the API server last sent anything on the watch; it sends a bookmark about once a minute.",
    Kind::Gauge,
    "seconds",
    &[],
    "monotonic clock",
);
pub(super) static RESYNCS: Desc = desc(
    "podmeter_kubernetes_resyncs_total",
    "How often all pods of this node were read anew, because a watch could not go on.",
    Kind::Counter,
    "",
    &[],
    "the watch of this node's pods",
);
pub(super) static REQUESTS: Desc = desc(
    "podmeter_kubernetes_requests_total",
    "Requests to the Kubernetes API, by operation.",
    Kind::Counter,
    "",
    &["operation"],
    "the client",
);
pub(super) static ERRORS: Desc = desc(
    "podmeter_kubernetes_errors_total",
    "Requests to the Kubernetes API, or watches, that failed, by operation and kind of error.",
    Kind::Counter,
    "",
    &["operation", "kind"],
    "the client",
);
pub(super) static FORBIDDEN: Desc = desc(
    "podmeter_kubernetes_forbidden",
    "Whether the role of Podmeter does not allow to read the resource.",
    Kind::Gauge,
    "",
    &["resource"],
    "the API server's answers",
);
pub(super) static PODS: Desc = desc(
    "podmeter_kubernetes_pods",
    "Pods that are known: live ones, and those gone from the API whose cgroups are still known.",
    Kind::Gauge,
    "",
    &["state"],
    "the watch of this node's pods",
);
pub(super) static OBJECTS: Desc = desc(
    "podmeter_kubernetes_objects",
    "Owners, namespaces and nodes that are remembered, those that do not exist included.",
    Kind::Gauge,
    "",
    &[],
    "the cache",
);
pub(super) static LEFT_OUT: Desc = desc(
    "podmeter_kubernetes_left_out_total",
    "What a limit left out or cut, by limit.",
    Kind::Counter,
    "",
    &["limit"],
    "the limits",
);

/// The families.
pub(super) struct KubernetesMetrics {
    state: IntGaugeVec,
    synced: IntGauge,
    event_age: Gauge,
    resyncs: prometheus::IntCounter,
    requests: IntCounterVec,
    errors: IntCounterVec,
    forbidden: IntGaugeVec,
    pods: IntGaugeVec,
    objects: IntGauge,
    left_out: IntCounterVec,
}

impl KubernetesMetrics {
    pub(super) fn new(register: &Register<'_>) -> Result<Self, Error> {
        Ok(Self {
            state: register.int_gauges(&STATE)?,
            synced: register.int_gauge(&SYNCED)?,
            event_age: register.gauge(&EVENT_AGE)?,
            resyncs: register.counter(&RESYNCS)?,
            requests: register.counters(&REQUESTS)?,
            errors: register.counters(&ERRORS)?,
            forbidden: register.int_gauges(&FORBIDDEN)?,
            pods: register.int_gauges(&PODS)?,
            objects: register.int_gauge(&OBJECTS)?,
            left_out: register.counters(&LEFT_OUT)?,
        })
    }

    /// Ends all of its series.
    pub(super) fn unregister(self, registry: &Registry) -> Result<(), Error> {
        let collectors: [Box<dyn Collector>; 10] = [
            Box::new(self.state),
            Box::new(self.synced),
            Box::new(self.event_age),
            Box::new(self.resyncs),
            Box::new(self.requests),
            Box::new(self.errors),
            Box::new(self.forbidden),
            Box::new(self.pods),
            Box::new(self.objects),
            Box::new(self.left_out),
        ];
        collectors.into_iter().try_for_each(|collector| registry.unregister(collector))
    }

    /// Notes how it stands; `labels` are the labels of pods that were left out and the values that were cut.
    pub(super) fn record(&self, status: &KubernetesStatus, labels: (u64, u64), now: Instant) {
        let gauge = |n: usize| i64::try_from(n).unwrap_or(i64::MAX);
        for state in SyncState::ALL {
            let holds = i64::from(state == status.state);
            self.state.with_label_values(&[state.as_str()]).set(holds);
        }
        self.synced.set(i64::from(status.is_synced));
        if let Some(age) = status.event_age(now) {
            self.event_age.set(age.as_secs_f64());
        }
        rise_to(&self.resyncs, status.n_resyncs);
        for (operation, total) in &status.requests {
            rise_to(&self.requests.with_label_values(&[operation.as_str()]), *total);
        }
        for ((operation, kind), total) in &status.errors {
            rise_to(&self.errors.with_label_values(&[operation.as_str(), *kind]), *total);
        }
        self.forbidden.reset();
        for resource in status.forbidden.keys() {
            self.forbidden.with_label_values(&[&**resource]).set(1);
        }
        let numbers = &status.numbers;
        self.pods.with_label_values(&["live"]).set(gauge(numbers.n_live));
        self.pods.with_label_values(&["departed"]).set(gauge(numbers.n_departed));
        self.objects.set(gauge(numbers.n_objects));
        for (limit, total) in [
            ("pods", numbers.n_pods_left_out),
            ("departed_pods", numbers.n_departed_forgotten),
            ("objects", numbers.n_objects_left_out),
            ("labels_of_pod", labels.0),
            ("label_value_length", labels.1),
        ] {
            rise_to(&self.left_out.with_label_values(&[limit]), total);
        }
    }
}

const fn desc(
    name: &'static str,
    help: &'static str,
    kind: Kind,
    unit: &'static str,
    labels: &'static [&'static str],
    origin: &'static str,
) -> Desc {
    Desc { name, help, kind, unit, labels, origin }
}
