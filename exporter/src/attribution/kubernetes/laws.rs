//! Laws that hold for every sequence of events of pods, owners and cgroups: no wrong name, no name twice, no growth
//! without bound.

use std::{
    collections::{BTreeMap, BTreeSet, HashSet},
    sync::Arc,
    time::{Duration, Instant},
};

use proptest::{
    collection::{btree_set, vec},
    prelude::{Just, ProptestConfig, Strategy, proptest},
    prop_oneof,
};

use super::{
    owners::{Object, ObjectKey, ObjectKind, Unread},
    pod::Pod,
    store::{Bounds, Store},
    testing,
};
use crate::{
    attribution::{Identity, Part, Snapshot},
    cgroup::tree::{CgroupEntry, CgroupTree, State},
    subject::{CgroupId, ContainerId, PodUid},
};

const BOUNDS: Bounds = Bounds { pods: 4, departed: 3, objects: 5 };
/// What the API could ever tell: five pods, each with two containers of up to three incarnations.
const N_PODS: usize = 5;

#[derive(Clone, Debug)]
enum Step {
    /// The API tells of a pod, with that many incarnations of its containers listed.
    Put {
        pod: usize,
        n_listed: usize,
    },
    Remove {
        pod: usize,
    },
    Replace {
        pods: Vec<usize>,
    },
    /// A cgroup is made: the sandbox's, or an incarnation's of a container.
    Make {
        pod: usize,
        what: Made,
    },
    Kill {
        pod: usize,
        what: Made,
    },
    /// A dead cgroup's grace is over.
    Free,
    /// The oldest object that is due is answered.
    Answer {
        answer: usize,
    },
    Wait {
        minutes: u64,
    },
    Collect,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Made {
    Pod,
    Sandbox,
    Container { idx: usize, incarnation: usize },
}

fn made() -> impl Strategy<Value = Made> {
    prop_oneof![
        Just(Made::Pod),
        Just(Made::Sandbox),
        (0..2_usize, 0..3_usize)
            .prop_map(|(idx, incarnation)| Made::Container { idx, incarnation }),
    ]
}

fn step() -> impl Strategy<Value = Step> {
    let pod = 0..N_PODS;
    prop_oneof![
        3 => (pod.clone(), 0..4_usize).prop_map(|(pod, n_listed)| Step::Put { pod, n_listed }),
        1 => pod.clone().prop_map(|pod| Step::Remove { pod }),
        1 => vec(pod.clone(), 0..N_PODS).prop_map(|pods| Step::Replace { pods }),
        4 => (pod.clone(), made()).prop_map(|(pod, what)| Step::Make { pod, what }),
        1 => (pod, made()).prop_map(|(pod, what)| Step::Kill { pod, what }),
        1 => Just(Step::Free),
        3 => (0..4_usize).prop_map(|answer| Step::Answer { answer }),
        1 => (0..20_u64).prop_map(|minutes| Step::Wait { minutes }),
        3 => Just(Step::Collect),
    ]
}

fn uid(pod: usize) -> String {
    format!("00000000-0000-0000-0000-00000000000{pod}")
}

fn container_id(pod: usize, made: Made) -> String {
    let (idx, incarnation) = match made {
        Made::Container { idx, incarnation } => (idx + 1, incarnation),
        Made::Pod | Made::Sandbox => (0, 0),
    };
    format!("{pod}{idx}{incarnation}{}", "0".repeat(61))
}

fn path(pod: usize, made: Made) -> String {
    let parent = format!("/kubepods/pod{}", uid(pod));
    match made {
        Made::Pod => parent,
        Made::Sandbox | Made::Container { .. } => {
            format!("{parent}/{}", container_id(pod, made))
        }
    }
}

/// The pod with so many incarnations of each container.
fn object(pod: usize, n_incarnations: impl Fn(usize) -> usize) -> Pod {
    let ids = |idx: usize| -> Vec<String> {
        // The current one and the last one, as a status has them.
        (0..n_incarnations(idx))
            .rev()
            .take(2)
            .map(|incarnation| container_id(pod, Made::Container { idx, incarnation }))
            .collect()
    };
    let (a, b) = (ids(0), ids(1));
    let a: Vec<&str> = a.iter().map(String::as_str).collect();
    let b: Vec<&str> = b.iter().map(String::as_str).collect();
    let mut object = testing::pod(&uid(pod), &format!("pod-{pod}"), &[("a", &a), ("b", &b)]);
    object.controller = Some(match pod {
        0 => testing::controller("argoproj.io/v1alpha1", "Rollout", "rollout"),
        1 => testing::controller("batch/v1", "Job", "job"),
        _ => testing::controller("apps/v1", "ReplicaSet", &format!("rs-{pod}-h")),
    });
    object.template_hash = (pod == 2).then(|| "h".into());
    object
}

/// Every workload that the pod could truly have, given that its owners may be unreadable.
fn true_workloads(pod: usize) -> Vec<(&'static str, String)> {
    match pod {
        0 => vec![("rollout", "rollout".into())],
        1 => vec![("job", "job".into()), ("cronjob", "cron".into())],
        2 => vec![("deployment", "rs-2".into()), ("replicaset", "rs-2-h".into())],
        _ => vec![("replicaset", format!("rs-{pod}-h")), ("deployment", format!("rs-{pod}"))],
    }
}

/// What the API server says of an object, if it answers.
fn truth(key: &ObjectKey) -> Object {
    let controller = match key.kind {
        ObjectKind::Job => Some(testing::controller("batch/v1", "CronJob", "cron")),
        ObjectKind::ReplicaSet => {
            let name = key.name.strip_suffix("-h").unwrap();
            Some(testing::controller("apps/v1", "Deployment", name))
        }
        _ => None,
    };
    Object { controller, metadata: Arc::new(testing::metadata(&[("of", &*key.name)])) }
}

/// The store, the cgroups and the time.
struct World {
    store: Store,
    snapshot: Snapshot,
    /// By id: the pod's, of which part, and whether it is live.
    cgroups: BTreeMap<u64, (usize, Made, bool)>,
    /// All that ever were: a runtime uses no id twice.
    made: BTreeSet<(usize, Made)>,
    now: Instant,
}

impl World {
    fn new() -> Self {
        let wanted = Arc::new(testing::all());
        let refresh = Duration::from_mins(5);
        Self {
            store: Store::new(wanted, Arc::from("node"), refresh, BOUNDS),
            snapshot: Snapshot::default(),
            cgroups: BTreeMap::new(),
            made: BTreeSet::new(),
            now: Instant::now(),
        }
    }

    fn step(&mut self, step: Step) {
        match step {
            Step::Put { pod, n_listed } => self.store.put(self.object(pod, n_listed)),
            Step::Remove { pod } => self.store.remove(&PodUid::new(uid(pod))),
            Step::Replace { pods } => {
                let pods: BTreeSet<usize> = pods.into_iter().collect();
                let pods = pods.into_iter().map(|pod| self.object(pod, 1)).collect();
                self.store.replace(pods);
            }
            Step::Make { pod, what } => self.make(pod, what),
            Step::Kill { pod, what } => self.kill(pod, what),
            Step::Free => {
                self.cgroups.retain(|_, (_, _, is_live)| *is_live);
            }
            Step::Answer { answer } => {
                if let Some(key) = self.store.due(self.now).into_iter().next() {
                    let answer = match answer {
                        0 => Err(Unread::Failed),
                        1 => Err(Unread::NotFound),
                        _ => Ok(truth(&key)),
                    };
                    self.store.answer(&key, answer, self.now);
                }
            }
            Step::Wait { minutes } => self.now += Duration::from_mins(minutes),
            Step::Collect => {}
        }
        self.collect();
    }

    /// The pod as the API tells of it: it may be late, but never tells of what was not made.
    fn object(&self, pod: usize, n_listed: usize) -> Pod {
        object(pod, |idx| {
            let made = |incarnation: &usize| {
                self.made.contains(&(pod, Made::Container { idx, incarnation: *incarnation }))
            };
            (0..n_listed).filter(made).count()
        })
    }

    /// As runtimes do it: the sandbox first, and a container anew when its last incarnation is dead.
    fn make(&mut self, pod: usize, what: Made) {
        let is_live = |made| self.cgroups.values().any(|one| *one == (pod, made, true));
        let can_be_made = match what {
            Made::Pod => true,
            Made::Sandbox => is_live(Made::Pod),
            Made::Container { idx, incarnation } => {
                let before = incarnation.checked_sub(1);
                let before = before.map(|incarnation| Made::Container { idx, incarnation });
                is_live(Made::Sandbox)
                    && before
                        .is_none_or(|before| self.made.contains(&(pod, before)) && !is_live(before))
            }
        };
        if can_be_made && self.made.insert((pod, what)) {
            self.cgroups.insert(self.made.len() as u64, (pod, what, true));
        }
    }

    /// A sandbox dies after its containers, and a pod's cgroup after both.
    fn kill(&mut self, pod: usize, what: Made) {
        for (of, made, is_live) in self.cgroups.values_mut() {
            let goes = match what {
                Made::Pod => true,
                Made::Sandbox => *made != Made::Pod,
                container @ Made::Container { .. } => *made == container,
            };
            *is_live &= !(goes && *of == pod);
        }
    }

    fn collect(&mut self) {
        let entry = |(id, (pod, made, is_live)): (&u64, &(usize, Made, bool))| CgroupEntry {
            id: CgroupId(*id),
            path: Arc::from(path(*pod, *made)),
            state: if *is_live { State::Live } else { State::Dead { since: self.now } },
        };
        let tree: CgroupTree = self.cgroups.iter().map(entry).collect();
        self.snapshot.follow(&tree);
        let uids: HashSet<_> = self.snapshot.pod_uids();
        self.store.forget_departed(|uid| uids.contains(uid));
        let view = self.store.view(self.now);
        self.snapshot.name(view, &tree);
    }

    fn check(&self) {
        let numbers = self.store.numbers();
        assert!(numbers.n_live <= BOUNDS.pods);
        assert!(numbers.n_departed <= BOUNDS.departed);
        assert!(numbers.n_objects <= BOUNDS.objects);
        let mut seen = BTreeSet::new();
        for (&id, &(pod, made, _)) in &self.cgroups {
            let id = CgroupId(id);
            assert!(matches!(
                self.snapshot.identity(id),
                Some(Identity::Container { .. } | Identity::Pod { .. })
            ));
            let Some(names) = self.snapshot.names(id) else {
                continue;
            };
            assert_eq!(names.pod.pod.uid.as_str(), uid(pod));
            assert_eq!(&*names.pod.pod.name, format!("pod-{pod}"));
            check_part(&names.part, pod, made);
            if let Some(workload) = &names.pod.workload {
                let found = (&*workload.kind, workload.name.to_string());
                assert!(true_workloads(pod).contains(&found), "{found:?} of {pod}");
            }
            if let Some(deployment) = &names.pod.deployment {
                assert_eq!(**deployment, format!("rs-{pod}"));
            }
            // One cgroup of a pod is its whole, and one its sandbox.
            if !matches!(names.part, Part::Container(_)) {
                let part = format!("{:?}", names.part);
                assert!(seen.insert((pod, part.clone())), "{part} of {pod} twice");
            }
        }
    }
}

fn check_part(part: &Part, pod: usize, made: Made) {
    match (part, made) {
        (Part::Whole, Made::Pod) | (Part::Sandbox, Made::Sandbox) => {}
        (Part::Container(name), Made::Container { idx, .. }) => {
            assert_eq!(&**name, ["a", "b"][idx]);
        }
        (Part::Unnamed(id), Made::Sandbox | Made::Container { .. }) => {
            assert_eq!(*id, ContainerId::new(container_id(pod, made)));
        }
        wrong => panic!("{wrong:?}"),
    }
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]
    #[test]
    fn no_sequence_of_events_gives_a_wrong_name_or_grows(steps in vec(step(), 0..120)) {
        let mut world = World::new();
        for step in steps {
            world.step(step);
            world.check();
        }
    }

    /// As long as a cgroup of a pod is known, it keeps its name, even if the API forgets the pod.
    #[test]
    fn a_name_is_kept_as_long_as_its_cgroup(pods in btree_set(0..N_PODS, 1..=BOUNDS.departed)) {
        let mut world = World::new();
        for pod in pods {
            for what in [Made::Pod, Made::Sandbox, Made::Container { idx: 0, incarnation: 0 }] {
                world.step(Step::Make { pod, what });
            }
            world.step(Step::Put { pod, n_listed: 1 });
            world.step(Step::Remove { pod });
            world.check();
            for &id in world.cgroups.keys() {
                let names = world.snapshot.names(CgroupId(id)).unwrap();
                assert!(!matches!(names.part, Part::Unnamed(_)), "{:?}", names.part);
            }
        }
        for cgroup in world.cgroups.values_mut() {
            cgroup.2 = false;
        }
        world.step(Step::Free);
        assert!(world.cgroups.is_empty());
        assert_eq!(world.store.numbers().n_departed, 0);
    }
}
