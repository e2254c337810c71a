//! Which network namespace the processes of each cgroup are in, from `cgroup.procs` and `/proc/<pid>/ns/net`.
//!
//! It is asked for on cgroup v1 only, where the kernel knows a socket's namespace but not its cgroup.
//! One process speaks for its cgroup: those of a pod share the pod's namespace.
//! A look is a few system calls, so a collection takes a bounded number of them, new cgroups first; what a cgroup was
//! found to be is looked at again by and by, because a container's first process is in its cgroup a moment before it
//! enters its namespace.
//! Whose process is another user's takes `CAP_SYS_PTRACE` to look at, so the privileged thread does, once a collection.

use std::{
    collections::{BTreeMap, HashMap},
    fs::{self, File},
    io::{self, Read as _},
    ops::Bound,
    path::{Path, PathBuf},
    sync::Arc,
    vec,
};

use crate::{
    caps::privileged::Privileged,
    cgroup::tree::{CgroupEntry, CgroupTree},
    subject::{CgroupId, NetworkNamespaceId},
};

/// Most cgroups that are looked at for the first time in one collection; the others wait for the next one.
const MAX_NEW_LOOKS: usize = 1024;

/// Cgroups that are looked at again in one collection.
const REPEATED_LOOKS: usize = 128;

/// The host's first process.
const HOST_PROCESS: &str = "1";
/// This one. Where the first process may not be looked at, its namespace stands for the host's, in which Podmeter is run;
/// without one, the host's would be that of the first cgroup that has a process in it.
const OWN_PROCESS: &str = "self";

/// Bytes of `cgroup.procs` that are enough for its first line.
const FIRST_LINE_BYTES: u64 = 32;

/// The network namespaces of cgroups at one moment.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct NetworkNamespaces {
    /// That of the host's first process, or of this one.
    host: Option<NetworkNamespaceId>,
    /// Of each cgroup that was looked at; none for one without processes.
    of_cgroups: BTreeMap<CgroupId, Option<NetworkNamespaceId>>,
}

impl NetworkNamespaces {
    /// The host's own, which every process is in that has none of its own.
    #[must_use]
    pub fn host(&self) -> Option<NetworkNamespaceId> {
        self.host
    }

    /// Each cgroup with the namespace of its processes, which several cgroups may share.
    pub fn iter(&self) -> impl Iterator<Item = (CgroupId, NetworkNamespaceId)> {
        self.of_cgroups.iter().filter_map(|(id, namespace)| Some((*id, (*namespace)?)))
    }

    /// Whether anybody is left in each namespace, as far as the cgroups of the tree tell.
    #[must_use]
    pub fn uses(&self, tree: &CgroupTree) -> HashMap<NetworkNamespaceId, NamespaceUse> {
        let mut uses = HashMap::new();
        for (cgroup, namespace) in self.iter() {
            let known = uses.entry(namespace).or_insert(NamespaceUse::Ended);
            if tree.get(cgroup).is_some_and(CgroupEntry::is_live) {
                *known = NamespaceUse::Live;
            }
        }
        uses.extend(self.host.map(|host| (host, NamespaceUse::Live)));
        uses
    }

    #[cfg(test)]
    pub(crate) fn of(
        host: NetworkNamespaceId,
        cgroups: impl IntoIterator<Item = (CgroupId, NetworkNamespaceId)>,
    ) -> Self {
        let of_cgroups = cgroups.into_iter().map(|(id, namespace)| (id, Some(namespace)));
        Self { host: Some(host), of_cgroups: of_cgroups.collect() }
    }
}

/// Whether anybody is in a namespace.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NamespaceUse {
    /// It is the host's, or a live cgroup has a process in it.
    Live,
    /// Every cgroup that had a process in it is gone.
    Ended,
}

/// Keeps [`NetworkNamespaces`] up to date.
#[derive(Debug)]
pub(super) struct NamespaceFinder {
    privileged: Privileged,
    proc: Arc<Path>,
    /// Where the hierarchy is mounted.
    root: PathBuf,
    found: Arc<NetworkNamespaces>,
    /// The last cgroup that was looked at again.
    cursor: CgroupId,
}

impl NamespaceFinder {
    pub(super) fn new(privileged: Privileged, proc: &Path, root: PathBuf) -> Self {
        Self { privileged, proc: proc.into(), root, found: Arc::default(), cursor: CgroupId(0) }
    }

    /// Looks at cgroups of the tree; what dead ones were in stays known as long as they do.
    pub(super) fn refresh(&mut self, tree: &CgroupTree) -> Arc<NetworkNamespaces> {
        let is_new = |entry: &&CgroupEntry| !self.found.of_cgroups.contains_key(&entry.id);
        let live = || tree.iter().filter(|entry| entry.is_live());
        let new: Vec<_> = live().filter(is_new).take(MAX_NEW_LOOKS).collect();
        let again = self.next_known(tree);
        self.cursor = again.last().map_or(CgroupId(0), |entry| entry.id);
        let cgroups: Vec<_> = new.into_iter().chain(again).collect();
        let processes = cgroups.iter().map(|entry| self.process_of(&entry.path));
        let of_host = [HOST_PROCESS, OWN_PROCESS].map(|process| Some(process.into()));
        let mut namespaces = self.look_at(of_host.into_iter().chain(processes));
        let mut found = NetworkNamespaces::clone(&self.found);
        let [host, own] = [(); 2].map(|()| namespaces.next().flatten());
        found.host = host.or(found.host).or(own);
        found.of_cgroups.retain(|id, _| tree.get(*id).is_some());
        for (entry, namespace) in cgroups.into_iter().zip(namespaces) {
            let known = found.of_cgroups.entry(entry.id).or_default();
            // A cgroup that is empty now may be about to die: its traffic is still that of its processes.
            *known = namespace.or(*known);
        }
        if found != *self.found {
            self.found = Arc::new(found);
        }
        Arc::clone(&self.found)
    }

    /// The known cgroups behind the cursor, or those from the start where there is none behind it.
    fn next_known<'a>(&self, tree: &'a CgroupTree) -> Vec<&'a CgroupEntry> {
        let behind = (Bound::Excluded(self.cursor), Bound::Unbounded);
        let behind = self.found.of_cgroups.range(behind).map(|(id, _)| id);
        let live = behind.filter_map(|id| tree.get(*id)).filter(|entry| entry.is_live());
        live.take(REPEATED_LOOKS).collect()
    }

    /// A process of the cgroup; none where it has none, or has just gone.
    fn process_of(&self, path: &str) -> Option<String> {
        let dir = self.root.join(path.trim_start_matches('/'));
        let pid = first_line(&dir.join("cgroup.procs")).ok()?;
        let pid = pid.trim_end();
        // An empty cgroup has no line, and a process of a PID namespace that is not below ours has the number 0.
        (!pid.is_empty() && pid != "0").then(|| pid.to_owned())
    }

    /// The namespaces of these processes, in their order; where the thread cannot say, there is none.
    fn look_at(
        &self,
        processes: impl Iterator<Item = Option<String>>,
    ) -> vec::IntoIter<Option<NetworkNamespaceId>> {
        let (processes, proc): (Vec<_>, _) = (processes.collect(), Arc::clone(&self.proc));
        let look = move || {
            let look = |pid: Option<String>| namespace_of(&proc, &pid?);
            processes.into_iter().map(look).collect::<Vec<_>>()
        };
        self.privileged.run(look).unwrap_or_default().into_iter()
    }
}

/// What cannot be read has just gone, or is another user's and stays unknown.
fn namespace_of(proc: &Path, pid: &str) -> Option<NetworkNamespaceId> {
    let link = fs::read_link(proc.join(pid).join("ns/net")).ok()?;
    parse(link.to_str()?)
}

fn first_line(path: &Path) -> io::Result<String> {
    let mut text = String::new();
    File::open(path)?.take(FIRST_LINE_BYTES).read_to_string(&mut text)?;
    text.truncate(text.find('\n').unwrap_or(text.len()));
    Ok(text)
}

/// The link of a namespace reads `net:[4026531840]`.
fn parse(link: &str) -> Option<NetworkNamespaceId> {
    link.strip_prefix("net:[")?.strip_suffix(']')?.parse().ok().map(NetworkNamespaceId)
}

#[cfg(test)]
mod tests {
    use std::{
        collections::HashMap, fmt::Display, fs, os::unix::fs::symlink, path::Path, sync::Arc,
        time::Instant,
    };

    use super::{NamespaceFinder, NamespaceUse, REPEATED_LOOKS, parse};
    use crate::{
        caps::privileged::{Keep, Privileged},
        cgroup::tree::{CgroupEntry, CgroupTree, State},
        subject::{CgroupId, NetworkNamespaceId},
    };

    const HOST: u64 = 4_026_531_840;

    fn add_process(dir: &Path, pid: impl Display, namespace: u64) {
        let namespaces = dir.join(format!("proc/{pid}/ns"));
        fs::create_dir_all(&namespaces).unwrap();
        let link = namespaces.join("net");
        drop(fs::remove_file(&link));
        symlink(format!("net:[{namespace}]"), link).unwrap();
    }

    fn set_processes(dir: &Path, path: &str, text: &str) {
        let cgroup = dir.join("cgroup").join(path.trim_start_matches('/'));
        fs::create_dir_all(&cgroup).unwrap();
        fs::write(cgroup.join("cgroup.procs"), text).unwrap();
    }

    fn finder_in(dir: &Path) -> NamespaceFinder {
        let privileged = Privileged::start(Keep::Everything, || {}).unwrap();
        NamespaceFinder::new(privileged, &dir.join("proc"), dir.join("cgroup"))
    }

    fn tree(cgroups: &[(u64, &str, State)]) -> CgroupTree {
        let entry = |&(id, path, state): &(u64, &str, State)| CgroupEntry {
            id: CgroupId(id),
            path: path.into(),
            state,
        };
        cgroups.iter().map(entry).collect()
    }

    /// The finder's answer, as numbers.
    fn found(finder: &mut NamespaceFinder, tree: &CgroupTree) -> (Option<u64>, Vec<(u64, u64)>) {
        let found = finder.refresh(tree);
        let pairs = found.iter().map(|(cgroup, namespace)| (cgroup.0, namespace.0)).collect();
        (found.host().map(|id| id.0), pairs)
    }

    #[test]
    fn links_of_network_namespaces_are_understood_and_no_others() {
        let check = |link: &str, expected: Option<u64>| {
            assert_eq!(parse(link), expected.map(NetworkNamespaceId), "{link}");
        };
        check("net:[4026531840]", Some(HOST));
        check("mnt:[4026531840]", None);
        check("net:[]", None);
        check("net:[12", None);
        check("", None);
    }

    #[test]
    fn a_cgroup_has_the_namespace_of_its_first_process() {
        let dir = tempfile::tempdir().unwrap();
        let dir = dir.path();
        add_process(dir, 1, HOST);
        add_process(dir, 20, 7);
        add_process(dir, 300, 8);
        set_processes(dir, "/pod", "");
        set_processes(dir, "/pod/a", "20\n300\n");
        set_processes(dir, "/outside", "0\n");
        set_processes(dir, "/ended", "4000\n");
        let cgroups = ["/pod", "/pod/a", "/outside", "/ended", "/gone"];
        let numbered: Vec<_> =
            (1..).zip(cgroups).map(|(id, path)| (id, path, State::Live)).collect();
        let mut finder = finder_in(dir);
        assert_eq!(found(&mut finder, &tree(&numbered)), (Some(HOST), vec![(2, 7)]));
    }

    #[test]
    fn the_host_is_where_the_first_process_is_or_else_this_one() {
        let dir = tempfile::tempdir().unwrap();
        let dir = dir.path();
        add_process(dir, "self", HOST);
        let mut finder = finder_in(dir);
        assert_eq!(found(&mut finder, &tree(&[])), (Some(HOST), vec![]));
        add_process(dir, 1, 7);
        assert_eq!(found(&mut finder, &tree(&[])), (Some(7), vec![]));
    }

    #[test]
    fn what_was_found_too_early_is_mended_and_the_dead_are_remembered() {
        let dir = tempfile::tempdir().unwrap();
        let dir = dir.path();
        add_process(dir, 1, HOST);
        add_process(dir, 20, HOST);
        set_processes(dir, "/a", "20\n");
        let live = tree(&[(5, "/a", State::Live)]);
        let mut finder = finder_in(dir);
        assert_eq!(found(&mut finder, &live), (Some(HOST), vec![(5, HOST)]));
        add_process(dir, 20, 7);
        assert_eq!(found(&mut finder, &live), (Some(HOST), vec![(5, 7)]));
        set_processes(dir, "/a", "");
        let unchanged = finder.refresh(&live);
        assert!(Arc::ptr_eq(&unchanged, &finder.refresh(&live)), "nothing new, nothing copied");
        let dead = tree(&[(5, "/a", State::Dead { since: Instant::now() })]);
        assert_eq!(found(&mut finder, &dead), (Some(HOST), vec![(5, 7)]));
        let uses = |tree: &CgroupTree| finder.found.uses(tree);
        let [seven, host] = [7, HOST].map(NetworkNamespaceId);
        let expected = |seven_is| HashMap::from([(seven, seven_is), (host, NamespaceUse::Live)]);
        assert_eq!(uses(&live), expected(NamespaceUse::Live));
        assert_eq!(uses(&dead), expected(NamespaceUse::Ended));
        assert_eq!(found(&mut finder, &tree(&[])), (Some(HOST), vec![]));
    }

    #[test]
    fn every_cgroup_has_its_turn_to_be_looked_at_again() {
        let dir = tempfile::tempdir().unwrap();
        let dir = dir.path();
        let n_cgroups = u64::try_from(2 * REPEATED_LOOKS).unwrap() + 1;
        let paths: Vec<String> = (0..n_cgroups).map(|idx| format!("/{idx}")).collect();
        for path in &paths {
            set_processes(dir, path, "20\n");
        }
        let cgroups: Vec<_> =
            (1..).zip(&paths).map(|(id, path)| (id, path.as_str(), State::Live)).collect();
        let tree = tree(&cgroups);
        let mut finder = finder_in(dir);
        assert!(found(&mut finder, &tree).1.is_empty(), "no such process yet");
        add_process(dir, 20, 7);
        let counts: Vec<_> = (0..4).map(|_| found(&mut finder, &tree).1.len()).collect();
        let all = 2 * REPEATED_LOOKS + 1;
        assert_eq!(counts, [REPEATED_LOOKS, 2 * REPEATED_LOOKS, all, all]);
    }
}
