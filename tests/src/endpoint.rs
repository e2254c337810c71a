//! One end of a test's connections: a cgroup and a network namespace of its own, as a pod has them.

use podmeter::subject::Subject;

use crate::{
    cgroup::{Hierarchy, TestCgroup},
    netns::{Network, NetworkNamespace, socket_subject},
};

/// One end.
#[derive(Debug)]
pub struct Endpoint {
    /// What a report calls it.
    pub name: &'static str,
    /// Its network namespace.
    pub namespace: NetworkNamespace,
    /// Whom a probe says that its sockets belong to.
    pub subject: Subject,
    cgroup: TestCgroup,
}

/// A client and a server that reach each other, and nobody else.
#[must_use]
pub fn client_and_server(hierarchy: &Hierarchy, name: &str) -> [Endpoint; 2] {
    let Network { client, server } = Network::create(name);
    [("client", client), ("server", server)].map(|(name, namespace)| {
        let cgroup = hierarchy.create(name);
        let subject = socket_subject(hierarchy, &cgroup, namespace.inode());
        Endpoint { name, namespace, subject, cgroup }
    })
}

impl Endpoint {
    /// Does something there: sockets that are made meanwhile belong to it.
    pub fn enter<T: Send>(&self, work: impl FnOnce() -> T + Send) -> T {
        let _inside = self.cgroup.enter();
        self.namespace.enter(work)
    }
}
