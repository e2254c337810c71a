//! The state of the pods of this node, with the names and labels of kube-state-metrics, so that alerts and dashboards
//! that were made for it work. Pure.
//!
//! Pods that no node has yet are on no node's page.

mod descs;

use std::borrow::Cow;

pub use self::descs::METRICS;
use self::descs::{ContainerDescs, INIT_CONTAINER, REGULAR_CONTAINER};
use crate::{
    attribution::kubernetes::{
        pod::{Activity, ContainerKind, ContainerState, Pod, PodState},
        view::PodView,
    },
    metric::{Desc, Family, OwnLabels, Sample, Value},
    subject::Subject,
};

const PHASES: [&str; 5] = ["Pending", "Succeeded", "Failed", "Unknown", "Running"];
const REASONS: [&str; 5] =
    ["Evicted", "NodeAffinity", "NodeLost", "Shutdown", "UnexpectedAdmissionError"];
const QOS_CLASSES: [&str; 3] = ["BestEffort", "Burstable", "Guaranteed"];
const CONDITIONS: [(&str, &str); 3] =
    [("True", "true"), ("False", "false"), ("Unknown", "unknown")];

/// The families of all pods that the API tells of; those that no pod has a sample for are left out.
#[must_use]
pub fn families(pods: &PodView) -> Vec<Family> {
    let mut collected = Collected(METRICS.iter().map(|desc| (desc, Vec::new())).collect());
    for attributed in pods.live() {
        let pod = &attributed.pod;
        if let Some(state) = &pod.state {
            collected.pod(pod, state);
            for container in &pod.containers {
                let (Some(of_container), Some(descs)) =
                    (&container.state, ContainerDescs::of(container.kind))
                else {
                    continue;
                };
                let labels = with(&labels(pod), [("container", &*container.name)]);
                collected.container(descs, &labels, of_container, state);
            }
        }
    }
    let families = collected.0.into_iter().filter(|(_, samples)| !samples.is_empty());
    families.map(|(desc, samples)| Family { desc, samples }).collect()
}

impl ContainerDescs {
    /// kube-state-metrics counts sidecars to the init containers, and knows no ephemeral ones.
    fn of(kind: ContainerKind) -> Option<&'static Self> {
        match kind {
            ContainerKind::Regular => Some(&REGULAR_CONTAINER),
            ContainerKind::Init | ContainerKind::Sidecar => Some(&INIT_CONTAINER),
            ContainerKind::Ephemeral => None,
        }
    }
}

/// Samples by family, in the order of [`METRICS`].
struct Collected(Vec<(&'static Desc, Vec<Sample>)>);

impl Collected {
    fn push(&mut self, desc: &Desc, labels: OwnLabels, number: f64) {
        if let Some((_, samples)) = self.0.iter_mut().find(|(known, _)| known.name == desc.name) {
            samples.push(Sample { subject: Subject::Node, labels, value: Value::Number(number) });
        }
    }

    /// One sample for each of the values, 1 for the one that holds.
    fn one_of(
        &mut self,
        desc: &Desc,
        labels: &OwnLabels,
        name: &'static str,
        values: impl IntoIterator<Item = (&'static str, bool)>,
    ) {
        for (value, holds) in values {
            let mut labels = labels.clone();
            labels.push((name, Cow::Borrowed(value)));
            self.push(desc, labels, number(holds));
        }
    }

    fn time(&mut self, desc: &Desc, labels: &OwnLabels, seconds: Option<f64>) {
        if let Some(seconds) = seconds {
            self.push(desc, labels.clone(), seconds);
        }
    }

    fn pod(&mut self, pod: &Pod, state: &PodState) {
        let labels = labels(pod);
        let (kind, name) = match &pod.controller {
            Some(controller) => (&*controller.kind, &*controller.name),
            None => ("", ""),
        };
        let info = with(
            &labels,
            [
                ("host_ip", &*state.host_ip),
                ("pod_ip", &*state.pod_ip),
                ("node", &*state.node),
                ("created_by_kind", kind),
                ("created_by_name", name),
                ("priority_class", &*state.priority_class),
                ("host_network", if state.host_network { "true" } else { "false" }),
            ],
        );
        self.push(&descs::INFO, info, 1.0);
        let is_controller = if kind.is_empty() { "" } else { "true" };
        let owner =
            [("owner_kind", kind), ("owner_name", name), ("owner_is_controller", is_controller)];
        self.push(&descs::OWNER, with(&labels, owner), 1.0);
        self.time(&descs::CREATED, &labels, state.created);
        self.time(&descs::START_TIME, &labels, state.started);
        self.time(&descs::DELETED, &labels, state.deleted);
        self.one_of(&descs::PHASE, &labels, "phase", is(PHASES, &state.phase));
        self.one_of(&descs::REASON, &labels, "reason", is(REASONS, &state.reason));
        self.one_of(&descs::QOS_CLASS, &labels, "qos_class", is(QOS_CLASSES, &state.qos_class));
        for (desc, status) in [(&descs::READY, &state.ready), (&descs::SCHEDULED, &state.scheduled)]
        {
            if !status.is_empty() {
                let conditions = CONDITIONS.map(|(known, label)| (label, **status == *known));
                self.one_of(desc, &labels, "condition", conditions);
            }
        }
    }

    fn container(
        &mut self,
        descs: &ContainerDescs,
        labels: &OwnLabels,
        state: &ContainerState,
        pod: &PodState,
    ) {
        let now = state.now.as_ref();
        if let Some(now) = now {
            let is = |holds: bool| number(holds);
            let (waiting, running, terminated) = match now {
                Activity::Waiting { .. } => (true, false, false),
                Activity::Running { .. } => (false, true, false),
                Activity::Terminated { .. } => (false, false, true),
            };
            self.push(descs.waiting, labels.clone(), is(waiting));
            self.push(descs.running, labels.clone(), is(running));
            self.push(descs.terminated, labels.clone(), is(terminated));
            self.push(descs.ready, labels.clone(), is(state.ready));
            #[expect(clippy::cast_precision_loss, reason = "nothing restarts 2^53 times")]
            self.push(descs.restarts, labels.clone(), state.restarts as f64);
        }
        let reason = |reason: &str| with(labels, [("reason", reason)]);
        match now {
            Some(Activity::Waiting { reason: why }) => {
                self.push(descs.waiting_reason, reason(why), 1.0);
            }
            Some(Activity::Terminated { reason: why }) => {
                self.push(descs.terminated_reason, reason(why), 1.0);
            }
            Some(Activity::Running { started }) => {
                if let Some(desc) = descs.started {
                    self.time(desc, labels, *started);
                }
            }
            None => {}
        }
        if let Some((why, code)) = &state.last_terminated {
            self.push(descs.last_terminated_reason, reason(why), 1.0);
            if let (Some(desc), Ok(code)) = (descs.last_terminated_exitcode, i32::try_from(*code)) {
                self.push(desc, labels.clone(), code.into());
            }
        }
        for (desc, quantities) in [(descs.requests, &state.requests), (descs.limits, &state.limits)]
        {
            for (resource, quantity) in quantities {
                let (resource, unit) = resource_and_unit(resource);
                let labels =
                    with(labels, [("node", &*pod.node), ("resource", &*resource), ("unit", unit)]);
                self.push(desc, labels, *quantity);
            }
        }
    }
}

fn labels(pod: &Pod) -> OwnLabels {
    let pairs = [("namespace", &*pod.namespace), ("pod", &*pod.name), ("uid", pod.uid.as_str())];
    with(&Vec::new(), pairs)
}

fn with<'a>(
    labels: &OwnLabels,
    more: impl IntoIterator<Item = (&'static str, &'a str)>,
) -> OwnLabels {
    let more = more.into_iter().map(|(name, value)| (name, Cow::Owned(value.to_owned())));
    labels.iter().cloned().chain(more).collect()
}

fn is<const N: usize>(values: [&'static str; N], holds: &str) -> [(&'static str, bool); N] {
    values.map(|value| (value, value == holds))
}

fn number(holds: bool) -> f64 {
    f64::from(u8::from(holds))
}

/// The resource as a label's value (`nvidia_com_gpu`), and what it is counted in.
fn resource_and_unit(resource: &str) -> (Cow<'_, str>, &'static str) {
    let unit = match resource {
        "cpu" => "core",
        "memory" | "storage" | "ephemeral-storage" => "byte",
        other if other.starts_with("hugepages-") => "byte",
        other if other.starts_with("attachable-volumes-") => "byte",
        _ => "integer",
    };
    let is_valid = |letter: char| letter.is_ascii_alphanumeric() || letter == '_';
    if resource.chars().all(is_valid) {
        return (Cow::Borrowed(resource), unit);
    }
    let valid = resource.chars().map(|letter| if is_valid(letter) { letter } else { '_' });
    (Cow::Owned(valid.collect()), unit)
}

#[cfg(test)]
mod tests {
    use expect_test::{Expect, expect};

    use super::families;
    use crate::{
        attribution::{Snapshot, kubernetes::testing},
        encode::{Format, encode},
        labelling::Labeller,
        page::Page,
    };

    fn lines(recorded: &str, pod: &str) -> Vec<String> {
        let view = testing::view(testing::recorded(recorded));
        let mut labeller = Labeller::default();
        let labelled = labeller.label(families(&view), &Snapshot::default());
        let page = Page::new(labelled.families);
        assert_eq!(page.n_settled(), 0, "no series stands twice");
        let text = String::from_utf8(encode(&page, Format::Text004)).unwrap();
        let of_pod = format!("pod=\"{pod}\"");
        text.lines().filter(|line| line.contains(&of_pod)).map(str::to_owned).collect()
    }

    fn check(pod: &str, expected: Expect) {
        let text = include_str!("../../../../tests/fixtures/v1.34.9/pods-on-node.json");
        // Of those that are one of several, only the one that holds.
        let holds = |line: &String| !line.ends_with(" 0");
        let lines: Vec<_> = lines(text, pod).into_iter().filter(holds).collect();
        expected.assert_eq(&lines.join("\n"));
    }

    #[test]
    fn a_crash_loop_of_a_recorded_cluster() {
        check(
            "crasher",
            expect![[r#"
            kube_pod_container_resource_limits{container="main",namespace="n9e",node="vm-node-1",pod="crasher",resource="cpu",uid="bd77cee4-7035-47d7-bcd1-150f5457f931",unit="core"} 0.2
            kube_pod_container_resource_limits{container="main",namespace="n9e",node="vm-node-1",pod="crasher",resource="memory",uid="bd77cee4-7035-47d7-bcd1-150f5457f931",unit="byte"} 25165824
            kube_pod_container_resource_requests{container="main",namespace="n9e",node="vm-node-1",pod="crasher",resource="cpu",uid="bd77cee4-7035-47d7-bcd1-150f5457f931",unit="core"} 0.005
            kube_pod_container_resource_requests{container="main",namespace="n9e",node="vm-node-1",pod="crasher",resource="memory",uid="bd77cee4-7035-47d7-bcd1-150f5457f931",unit="byte"} 16777216
            kube_pod_container_status_last_terminated_exitcode{container="main",namespace="n9e",pod="crasher",uid="bd77cee4-7035-47d7-bcd1-150f5457f931"} 137
            kube_pod_container_status_last_terminated_reason{container="main",namespace="n9e",pod="crasher",reason="OOMKilled",uid="bd77cee4-7035-47d7-bcd1-150f5457f931"} 1
            kube_pod_container_status_restarts_total{container="main",namespace="n9e",pod="crasher",uid="bd77cee4-7035-47d7-bcd1-150f5457f931"} 3
            kube_pod_container_status_terminated{container="main",namespace="n9e",pod="crasher",uid="bd77cee4-7035-47d7-bcd1-150f5457f931"} 1
            kube_pod_container_status_terminated_reason{container="main",namespace="n9e",pod="crasher",reason="OOMKilled",uid="bd77cee4-7035-47d7-bcd1-150f5457f931"} 1
            kube_pod_created{namespace="n9e",pod="crasher",uid="bd77cee4-7035-47d7-bcd1-150f5457f931"} 1795348074
            kube_pod_info{host_ip="10.77.0.1",host_network="false",namespace="n9e",node="vm-node-1",pod="crasher",pod_ip="10.244.0.8",uid="bd77cee4-7035-47d7-bcd1-150f5457f931"} 1
            kube_pod_owner{namespace="n9e",pod="crasher",uid="bd77cee4-7035-47d7-bcd1-150f5457f931"} 1
            kube_pod_start_time{namespace="n9e",pod="crasher",uid="bd77cee4-7035-47d7-bcd1-150f5457f931"} 1795348074
            kube_pod_status_phase{namespace="n9e",phase="Running",pod="crasher",uid="bd77cee4-7035-47d7-bcd1-150f5457f931"} 1
            kube_pod_status_qos_class{namespace="n9e",pod="crasher",qos_class="Burstable",uid="bd77cee4-7035-47d7-bcd1-150f5457f931"} 1
            kube_pod_status_ready{condition="false",namespace="n9e",pod="crasher",uid="bd77cee4-7035-47d7-bcd1-150f5457f931"} 1
            kube_pod_status_scheduled{condition="true",namespace="n9e",pod="crasher",uid="bd77cee4-7035-47d7-bcd1-150f5457f931"} 1"#]],
        );
    }

    #[test]
    fn a_job_that_is_done() {
        check(
            "once-d7pb8",
            expect![[r#"
            kube_pod_container_status_terminated{container="main",namespace="n9e",pod="once-d7pb8",uid="decd2980-6e7d-4708-a73a-f8b31f8ea151"} 1
            kube_pod_container_status_terminated_reason{container="main",namespace="n9e",pod="once-d7pb8",reason="Completed",uid="decd2980-6e7d-4708-a73a-f8b31f8ea151"} 1
            kube_pod_created{namespace="n9e",pod="once-d7pb8",uid="decd2980-6e7d-4708-a73a-f8b31f8ea151"} 1795348074
            kube_pod_info{created_by_kind="Job",created_by_name="once",host_ip="10.77.0.1",host_network="false",namespace="n9e",node="vm-node-1",pod="once-d7pb8",pod_ip="10.244.0.7",uid="decd2980-6e7d-4708-a73a-f8b31f8ea151"} 1
            kube_pod_owner{namespace="n9e",owner_is_controller="true",owner_kind="Job",owner_name="once",pod="once-d7pb8",uid="decd2980-6e7d-4708-a73a-f8b31f8ea151"} 1
            kube_pod_start_time{namespace="n9e",pod="once-d7pb8",uid="decd2980-6e7d-4708-a73a-f8b31f8ea151"} 1795348074
            kube_pod_status_phase{namespace="n9e",phase="Succeeded",pod="once-d7pb8",uid="decd2980-6e7d-4708-a73a-f8b31f8ea151"} 1
            kube_pod_status_qos_class{namespace="n9e",pod="once-d7pb8",qos_class="BestEffort",uid="decd2980-6e7d-4708-a73a-f8b31f8ea151"} 1
            kube_pod_status_ready{condition="false",namespace="n9e",pod="once-d7pb8",uid="decd2980-6e7d-4708-a73a-f8b31f8ea151"} 1
            kube_pod_status_scheduled{condition="true",namespace="n9e",pod="once-d7pb8",uid="decd2980-6e7d-4708-a73a-f8b31f8ea151"} 1"#]],
        );
    }

    #[test]
    fn every_pod_of_the_recorded_clusters_is_told_of() {
        for text in [
            include_str!("../../../../tests/fixtures/v1.34.9/pods-on-node.json"),
            include_str!("../../../../tests/fixtures/v1.20.2/pods-on-node.json"),
        ] {
            let view = testing::view(testing::recorded(text));
            let families = families(&view);
            let phase = families.iter().find(|family| family.desc.name == "kube_pod_status_phase");
            assert_eq!(phase.unwrap().samples.len(), 10 * 5);
        }
    }
}
