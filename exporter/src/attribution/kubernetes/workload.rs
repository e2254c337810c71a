//! From a pod to what it belongs to: its workload, its Deployment, and the metadata around it. Pure.

use std::sync::Arc;

use super::{
    owners::{Known, ObjectKey, ObjectKind, Owners},
    pod::{Controller, Metadata, Pod},
    wanted::Wanted,
};

/// What runs a pod, in the words of kubernetes-mixin.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Workload {
    /// Its kind in lower case; `barepod` or `staticpod` where nothing runs the pod but its node.
    pub kind: Arc<str>,
    /// Its name.
    pub name: Arc<str>,
}

/// A pod with everything that its series are labelled by.
#[derive(Clone, Debug, PartialEq)]
pub struct AttributedPod {
    /// The pod.
    pub pod: Arc<Pod>,
    /// What runs it; `None` as long as its owner is being read.
    pub workload: Option<Workload>,
    /// Its Deployment, if it has one.
    pub deployment: Option<Arc<str>>,
    /// Of its namespace, as far as wanted and known.
    pub namespace_metadata: Option<Arc<Metadata>>,
    /// Of its node.
    pub node_metadata: Option<Arc<Metadata>>,
    /// Of its Deployment.
    pub deployment_metadata: Option<Arc<Metadata>>,
    /// Of its workload.
    pub workload_metadata: Option<Arc<Metadata>>,
}

/// Follows a pod's owners as far as the configuration needs them.
pub(super) struct Walk<'a> {
    pub(super) wanted: &'a Wanted,
    pub(super) owners: &'a Owners,
    pub(super) node: &'a Arc<str>,
    /// Every object that was looked at, known or not.
    pub(super) needed: Vec<ObjectKey>,
}

impl Walk<'_> {
    /// Attributes the pod by what is known now.
    pub(super) fn attribute(&mut self, pod: &Arc<Pod>) -> AttributedPod {
        let mut attributed = AttributedPod {
            pod: Arc::clone(pod),
            workload: None,
            deployment: None,
            namespace_metadata: None,
            node_metadata: None,
            deployment_metadata: None,
            workload_metadata: None,
        };
        if !self.wanted.namespace.is_empty() {
            let key = cluster_wide(ObjectKind::Namespace, &pod.namespace);
            attributed.namespace_metadata = self.metadata(key);
        }
        if !self.wanted.node.is_empty() {
            attributed.node_metadata = self.metadata(cluster_wide(ObjectKind::Node, self.node));
        }
        match &pod.controller {
            None => self.run_by(&mut attributed, "barepod", &pod.name),
            // The owner of a static pod's mirror.
            Some(node) if &*node.kind == "Node" => {
                self.run_by(&mut attributed, "staticpod", &pod.name);
            }
            Some(controller) => match ObjectKind::of(controller) {
                ObjectKind::ReplicaSet => self.below_replica_set(&mut attributed, controller),
                ObjectKind::Job => self.below_job(&mut attributed, controller),
                _ => self.controlled_by(&mut attributed, controller),
            },
        }
        attributed
    }

    fn below_replica_set(&mut self, attributed: &mut AttributedPod, replica_set: &Controller) {
        let key = owner(ObjectKind::ReplicaSet, &attributed.pod.namespace, replica_set);
        self.needed.push(key.clone());
        match self.owners.look(&key) {
            Known::Pending => {}
            Known::Object(object) => match object.controller.clone() {
                Some(controller) => self.controlled_by(attributed, &controller),
                None => self.controlled_by(attributed, replica_set),
            },
            Known::Unread => match less_hash(replica_set, &attributed.pod) {
                Some(name) => {
                    let key = ObjectKey {
                        kind: ObjectKind::Deployment,
                        namespace: Arc::clone(&attributed.pod.namespace),
                        name: name.into(),
                        uid: None,
                    };
                    self.in_deployment(attributed, key);
                }
                None => self.controlled_by(attributed, replica_set),
            },
        }
    }

    fn below_job(&mut self, attributed: &mut AttributedPod, job: &Controller) {
        let key = owner(ObjectKind::Job, &attributed.pod.namespace, job);
        self.needed.push(key.clone());
        match self.owners.look(&key) {
            Known::Pending => {}
            Known::Object(object) => {
                let controller = object.controller.clone();
                self.controlled_by(attributed, controller.as_ref().unwrap_or(job));
            }
            Known::Unread => self.controlled_by(attributed, job),
        }
    }

    /// The end of the chain: the controller is the workload, Kubernetes' own or a foreign one.
    fn controlled_by(&mut self, attributed: &mut AttributedPod, controller: &Controller) {
        let kind = ObjectKind::of(controller);
        let namespace = &attributed.pod.namespace;
        if kind == ObjectKind::Deployment {
            let key = owner(ObjectKind::Deployment, namespace, controller);
            return self.in_deployment(attributed, key);
        }
        if !self.wanted.workload.is_empty() {
            let key = owner(kind, namespace, controller);
            attributed.workload_metadata = self.metadata(key);
        }
        attributed.workload = Some(Workload {
            kind: controller.kind.to_ascii_lowercase().into(),
            name: Arc::from(&*controller.name),
        });
    }

    fn in_deployment(&mut self, attributed: &mut AttributedPod, key: ObjectKey) {
        let name: Arc<str> = Arc::from(&*key.name);
        attributed.deployment = Some(Arc::clone(&name));
        attributed.workload = Some(Workload { kind: Arc::from("deployment"), name });
        if !ObjectKind::Deployment.keys(self.wanted).is_empty() {
            attributed.deployment_metadata = self.metadata(key);
            attributed.workload_metadata.clone_from(&attributed.deployment_metadata);
        }
    }

    /// The pod is its own workload.
    fn run_by(&mut self, attributed: &mut AttributedPod, kind: &str, name: &Arc<str>) {
        attributed.workload = Some(Workload { kind: Arc::from(kind), name: Arc::clone(name) });
        if !self.wanted.workload.is_empty() {
            // Whoever wants something of workloads wants it of pods, for this case.
            attributed.workload_metadata = Some(Arc::new(attributed.pod.metadata.clone()));
        }
    }

    fn metadata(&mut self, key: ObjectKey) -> Option<Arc<Metadata>> {
        let metadata = match self.owners.look(&key) {
            Known::Object(object) => Some(Arc::clone(&object.metadata)),
            Known::Pending | Known::Unread => None,
        };
        self.needed.push(key);
        metadata
    }
}

fn cluster_wide(kind: ObjectKind, name: &Arc<str>) -> ObjectKey {
    ObjectKey { kind, namespace: Arc::default(), name: Box::from(&**name), uid: None }
}

fn owner(kind: ObjectKind, namespace: &Arc<str>, controller: &Controller) -> ObjectKey {
    ObjectKey {
        kind,
        namespace: Arc::clone(namespace),
        name: controller.name.clone(),
        uid: Some(controller.uid.clone()),
    }
}

/// The Deployment's name, which its `ReplicaSet` has in front of the hash of the pods' template.
fn less_hash<'a>(replica_set: &'a Controller, pod: &Pod) -> Option<&'a str> {
    let hash = pod.template_hash.as_deref().filter(|hash| !hash.is_empty())?;
    let name = replica_set.name.strip_suffix(hash)?.strip_suffix('-')?;
    (!name.is_empty()).then_some(name)
}

#[cfg(test)]
mod tests {
    use std::{
        sync::Arc,
        time::{Duration, Instant},
    };

    use super::{AttributedPod, Walk};
    use crate::{
        attribution::kubernetes::{
            owners::{Object, Owners, Unread},
            pod::{Controller, Pod},
            testing,
            wanted::Wanted,
        },
        jitter::Jitter,
    };

    /// What the server says of the object that is asked for.
    type Answer = Option<Result<Option<Controller>, Unread>>;

    /// A pod of that controller, once what is needed of its first owner was read.
    fn attributed(
        controller: Option<Controller>,
        answer: Answer,
        wanted: &Wanted,
    ) -> AttributedPod {
        let pod =
            Pod { controller, template_hash: Some("5d9c".into()), ..testing::pod("u", "p", &[]) };
        let (pod, node, now) = (Arc::new(pod), Arc::from("node"), Instant::now());
        let mut owners = Owners::new(10, Duration::from_mins(5));
        let walk = |owners: &Owners| {
            let mut walk = Walk { wanted, owners, node: &node, needed: Vec::new() };
            (walk.attribute(&pod), walk.needed)
        };
        let (_, needed) = walk(&owners);
        if let (Some(key), Some(answer)) = (needed.first(), answer) {
            owners.need(key, now);
            let object = answer.map(|controller| Object { controller, ..Object::default() });
            owners.answer(key, object, now, &mut Jitter::default());
        }
        walk(&owners).0
    }

    #[test]
    fn the_workload_is_the_last_controller_that_is_known() {
        let check = |controller: Option<(&str, &str, &str)>,
                     answer: Answer,
                     expected: Option<&str>| {
            let controller =
                controller.map(|(api, kind, name)| testing::controller(api, kind, name));
            let pod = attributed(controller, answer, &Wanted::default());
            let deployment = pod.deployment.as_deref().unwrap_or("none");
            let found = pod.workload.map(|one| format!("{} {}, {deployment}", one.kind, one.name));
            assert_eq!(found.as_deref(), expected);
        };
        let by = |api: &str, kind: &str, name: &str| -> Answer {
            Some(Ok(Some(testing::controller(api, kind, name))))
        };
        let replica_set = Some(("apps/v1", "ReplicaSet", "web-5d9c"));
        check(replica_set, None, None);
        check(replica_set, by("apps/v1", "Deployment", "web"), Some("deployment web, web"));
        check(replica_set, Some(Ok(None)), Some("replicaset web-5d9c, none"));
        check(replica_set, Some(Err(Unread::Failed)), Some("deployment web, web"));
        let foreign = by("argoproj.io/v1alpha1", "Rollout", "web");
        check(replica_set, foreign, Some("rollout web, none"));
        let odd = Some(("apps/v1", "ReplicaSet", "web"));
        check(odd, Some(Err(Unread::NotFound)), Some("replicaset web, none"));

        let job = Some(("batch/v1", "Job", "backup-1"));
        check(job, by("batch/v1", "CronJob", "backup"), Some("cronjob backup, none"));
        check(job, Some(Ok(None)), Some("job backup-1, none"));
        check(job, Some(Err(Unread::Failed)), Some("job backup-1, none"));

        check(Some(("apps/v1", "StatefulSet", "db")), None, Some("statefulset db, none"));
        check(Some(("apps/v1", "DaemonSet", "agent")), None, Some("daemonset agent, none"));
        let controller = Some(("v1", "ReplicationController", "old"));
        check(controller, None, Some("replicationcontroller old, none"));
        check(Some(("v1", "Node", "node")), None, Some("staticpod p, none"));
        check(None, None, Some("barepod p, none"));
    }
}
