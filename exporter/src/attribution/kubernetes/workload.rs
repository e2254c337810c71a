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
                Some(ObjectKind::ReplicaSet) => self.below_replica_set(&mut attributed, controller),
                Some(ObjectKind::Job) => self.below_job(&mut attributed, controller),
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
        if kind == Some(ObjectKind::Deployment) {
            let key = owner(ObjectKind::Deployment, namespace, controller);
            return self.in_deployment(attributed, key);
        }
        if let Some(kind) = kind
            && !self.wanted.workload.is_empty()
        {
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
