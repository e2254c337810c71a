//! Tests of the watcher, on temporary directories and, where the machine allows it, on real cgroups.

use std::{
    fs::{self, File},
    io,
    os::unix::fs::MetadataExt as _,
    path::{Path, PathBuf},
    time::{Duration, Instant},
};

use super::{
    CgroupWatcher, DEAD_GRACE, Happening, MAX_CGROUPS, RESCAN_EVERY, Refreshed, WatchError,
};
use crate::{
    cgroup::{testing::RealCgroup, tree::CgroupTree},
    subject::CgroupId,
};

fn start(root: &Path) -> CgroupWatcher {
    CgroupWatcher::start(root.to_owned(), DEAD_GRACE, MAX_CGROUPS, Instant::now()).unwrap()
}

fn id_of(dir: &Path) -> CgroupId {
    CgroupId(fs::metadata(dir).unwrap().ino())
}

/// Paths below `prefix`, in order; `+` is behind the dead.
fn paths(tree: &CgroupTree, prefix: &str) -> Vec<String> {
    let mut paths: Vec<String> = tree
        .iter()
        .filter(|entry| entry.path.starts_with(prefix))
        .map(|entry| format!("{}{}", entry.path, if entry.is_live() { "" } else { "+" }))
        .collect();
    paths.sort_unstable();
    paths
}

/// Refreshes until the paths are the expected ones; events are there at once, but nobody promises it.
fn expect(watcher: &mut CgroupWatcher, prefix: &str, expected: &[&str]) -> Refreshed {
    let deadline = Instant::now() + Duration::from_secs(5);
    loop {
        let refreshed = watcher.refresh(Instant::now());
        let found = paths(&refreshed.tree, prefix);
        if found == expected {
            return refreshed;
        }
        assert!(Instant::now() < deadline, "{found:?} is not {expected:?}");
    }
}

/// What a kernel does to a tree, seen through events alone.
fn check_life(root: &Path, prefix: &str) {
    let top = root.join(prefix.trim_start_matches('/'));
    fs::create_dir_all(top.join("old/er")).unwrap();
    let name = |rest: &str| format!("{prefix}{rest}");
    let (old, older, deep, deeper) =
        (name("/old"), name("/old/er"), name("/deep"), name("/deep/a"));
    let mut watcher = start(root);
    expect(&mut watcher, prefix, &[prefix, &old, &older]);

    // Nested: the inner ones are made before the outer one is watched.
    fs::create_dir_all(top.join("deep/a/b/c")).unwrap();
    let (b, c) = (name("/deep/a/b"), name("/deep/a/b/c"));
    let refreshed = expect(&mut watcher, prefix, &[prefix, &deep, &deeper, &b, &c, &old, &older]);
    let id = id_of(&top.join("deep/a/b/c"));
    assert_eq!(&*refreshed.tree.get(id).unwrap().path, c);

    // And in a directory that became known by an event.
    let late = name("/deep/a/b/c/late");
    fs::create_dir(top.join("deep/a/b/c/late")).unwrap();
    expect(&mut watcher, prefix, &[prefix, &deep, &deeper, &b, &c, &late, &old, &older]);

    // Removed, and made again under the same name; held open, so that no file system gives the number again.
    let held = File::open(top.join("old/er")).unwrap();
    let old_id = id_of(&top.join("old/er"));
    fs::remove_dir(top.join("old/er")).unwrap();
    let dead = format!("{older}+");
    expect(&mut watcher, prefix, &[prefix, &deep, &deeper, &b, &c, &late, &old, &dead]);
    fs::create_dir(top.join("old/er")).unwrap();
    let new_id = id_of(&top.join("old/er"));
    let now = [prefix, &deep, &deeper, &b, &c, &late, &old, &older, &dead];
    let refreshed = expect(&mut watcher, prefix, &now);
    assert_ne!(old_id, new_id);
    assert!(!refreshed.tree.get(old_id).unwrap().is_live());
    assert!(refreshed.tree.get(new_id).unwrap().is_live());
    drop(held);

    // Made, removed and made again before anybody looked.
    fs::remove_dir(top.join("old/er")).unwrap();
    fs::create_dir(top.join("old/er")).unwrap();
    fs::remove_dir(top.join("old/er")).unwrap();
    fs::create_dir(top.join("old/er")).unwrap();
    let refreshed = watcher.refresh(Instant::now());
    assert!(refreshed.tree.get(id_of(&top.join("old/er"))).unwrap().is_live());

    assert_eq!(watcher.stats(), super::WatchStats::default(), "no rescan was needed");
    assert!(watcher.problem().is_none());
}

#[test]
fn follows_a_temporary_tree() {
    let dir = tempfile::tempdir().unwrap();
    check_life(dir.path(), "/top");
}

#[test]
fn the_root_is_a_cgroup_and_files_are_none() {
    let dir = tempfile::tempdir().unwrap();
    fs::write(dir.path().join("cpu.stat"), "").unwrap();
    let mut watcher = start(dir.path());
    fs::write(dir.path().join("cpu.max"), "").unwrap();
    fs::create_dir(dir.path().join("a")).unwrap();
    let refreshed = expect(&mut watcher, "/", &["/", "/a"]);
    assert_eq!(&*refreshed.tree.get(id_of(dir.path())).unwrap().path, "/");
}

#[test]
fn a_rename_keeps_the_id_and_moves_what_is_below() {
    let dir = tempfile::tempdir().unwrap();
    fs::create_dir_all(dir.path().join("a/b")).unwrap();
    let (a, b) = (id_of(&dir.path().join("a")), id_of(&dir.path().join("a/b")));
    let mut watcher = start(dir.path());
    fs::rename(dir.path().join("a"), dir.path().join("z")).unwrap();
    let refreshed = expect(&mut watcher, "/", &["/", "/z", "/z/b"]);
    assert_eq!(&*refreshed.tree.get(a).unwrap().path, "/z");
    assert_eq!(&*refreshed.tree.get(b).unwrap().path, "/z/b");
    fs::create_dir(dir.path().join("z/b/c")).unwrap();
    expect(&mut watcher, "/", &["/", "/z", "/z/b", "/z/b/c"]);
}

#[test]
fn the_dead_are_freed_once_after_the_grace_period() {
    let dir = tempfile::tempdir().unwrap();
    fs::create_dir(dir.path().join("a")).unwrap();
    let id = id_of(&dir.path().join("a"));
    let mut watcher = start(dir.path());
    fs::remove_dir(dir.path().join("a")).unwrap();
    assert!(expect(&mut watcher, "/", &["/", "/a+"]).freed.is_empty());
    let after = watcher.refresh(Instant::now() + DEAD_GRACE);
    assert_eq!(after.freed, [id]);
    assert_eq!(paths(&after.tree, "/"), ["/"]);
    assert!(watcher.refresh(Instant::now() + DEAD_GRACE).freed.is_empty());
}

#[test]
fn nothing_is_copied_where_nothing_changed() {
    let dir = tempfile::tempdir().unwrap();
    let mut watcher = start(dir.path());
    let first = watcher.refresh(Instant::now());
    let second = watcher.refresh(Instant::now());
    assert!(std::sync::Arc::ptr_eq(&first.tree, &second.tree));
}

#[test]
fn an_overflow_reads_the_tree_again() {
    let dir = tempfile::tempdir().unwrap();
    for name in ["stays", "goes", "goes/too"] {
        fs::create_dir(dir.path().join(name)).unwrap();
    }
    let mut watcher = start(dir.path());
    // Held open, so that their numbers are not given again.
    let held = ["goes", "goes/too"].map(|name| File::open(dir.path().join(name)).unwrap());
    fs::remove_dir_all(dir.path().join("goes")).unwrap();
    fs::create_dir_all(dir.path().join("comes/too")).unwrap();
    // The events themselves are lost.
    watcher.watches.drain().unwrap();
    watcher.take_in(vec![Happening::Overflow], Instant::now());
    let expected = ["/", "/comes", "/comes/too", "/goes+", "/goes/too+", "/stays"];
    assert_eq!(paths(watcher.tree(), "/"), expected);
    assert_eq!((watcher.stats().overflows, watcher.stats().rescans), (1, 1));
    // What the rescan found is watched.
    fs::create_dir(dir.path().join("comes/too/late")).unwrap();
    let all = ["/", "/comes", "/comes/too", "/comes/too/late", "/goes+", "/goes/too+", "/stays"];
    expect(&mut watcher, "/", &all);
    drop(held);
}

#[test]
fn without_inotify_the_tree_is_read_now_and_then() {
    let dir = tempfile::tempdir().unwrap();
    fs::create_dir(dir.path().join("a")).unwrap();
    let start = Instant::now();
    let refused = Err(io::Error::from(io::ErrorKind::QuotaExceeded));
    let root = dir.path().to_owned();
    let mut watcher =
        CgroupWatcher::start_with(refused, root, DEAD_GRACE, MAX_CGROUPS, start).unwrap();
    let problem = watcher.problem().unwrap().to_string();
    assert!(problem.contains("fs.inotify.max_user_instances"), "{problem}");
    assert_eq!(watcher.stats().watch_failures, 2);

    fs::create_dir(dir.path().join("b")).unwrap();
    let too_soon = watcher.refresh(start + RESCAN_EVERY.mul_f64(0.9));
    assert_eq!(paths(&too_soon.tree, "/"), ["/", "/a"]);
    let in_time = watcher.refresh(start + RESCAN_EVERY);
    assert_eq!(paths(&in_time.tree, "/"), ["/", "/a", "/b"]);
    assert_eq!(watcher.stats().rescans, 1);

    // By then the kernel had an instance to give.
    assert!(watcher.problem().is_none());
    fs::create_dir(dir.path().join("b/c")).unwrap();
    expect(&mut watcher, "/", &["/", "/a", "/b", "/b/c"]);
}

#[test]
fn a_missing_watch_names_the_sysctl() {
    let source = io::Error::from(io::ErrorKind::StorageFull);
    let error = WatchError::NoWatchLeft { path: PathBuf::from("/a"), source };
    assert!(error.to_string().contains("sysctl -w fs.inotify.max_user_watches="), "{error}");
}

#[test]
fn the_cap_holds_and_room_is_used_again() {
    let dir = tempfile::tempdir().unwrap();
    for name in ["a", "b", "c"] {
        fs::create_dir(dir.path().join(name)).unwrap();
    }
    let start = Instant::now();
    let root = dir.path().to_owned();
    let mut watcher = CgroupWatcher::start(root, DEAD_GRACE, 3, start).unwrap();
    let tracked = watcher.refresh(start).tree;
    assert_eq!((tracked.len(), watcher.stats().over_cap), (3, 1));

    let gone = tracked.iter().find(|entry| &*entry.path != "/").unwrap();
    fs::remove_dir(dir.path().join(gone.path.trim_start_matches('/'))).unwrap();
    watcher.refresh(start);
    let refreshed = watcher.refresh(start + RESCAN_EVERY);
    assert_eq!(refreshed.tree.len(), 3);
    assert!(refreshed.tree.iter().all(super::super::tree::CgroupEntry::is_live));
    assert_eq!(watcher.stats().rescans, 1);
    watcher.refresh(start + RESCAN_EVERY * 2);
    assert_eq!(watcher.stats().rescans, 1, "all are in: nothing to look for");
}

#[test]
fn a_root_that_is_not_there_is_an_error() {
    let root = PathBuf::from("/nonexistent/cgroup");
    let error = CgroupWatcher::start(root, DEAD_GRACE, MAX_CGROUPS, Instant::now()).unwrap_err();
    assert!(error.to_string().contains("/nonexistent/cgroup"), "{error}");
}

#[test]
fn follows_real_cgroups() {
    let Some(cgroup) = RealCgroup::make("life") else {
        return;
    };
    check_life(&cgroup.hierarchy.mount_point, &cgroup.path);
}

#[test]
fn watches_of_removed_cgroups_are_given_back() {
    let Some(cgroup) = RealCgroup::make("watches") else {
        return;
    };
    let mut watcher = start(&cgroup.dir);
    let before = n_watches();
    for _ in 0..100 {
        fs::create_dir(cgroup.dir.join("short")).unwrap();
        expect(&mut watcher, "/short", &["/short"]);
        fs::remove_dir(cgroup.dir.join("short")).unwrap();
        expect(&mut watcher, "/short", &["/short+"]);
        watcher.refresh(Instant::now() + DEAD_GRACE);
    }
    // Other tests watch too; a leak would be a hundred.
    assert!(n_watches() < before + 50, "{before} watches became {}", n_watches());
}

/// All inotify watches of this process.
fn n_watches() -> usize {
    fs::read_dir("/proc/self/fdinfo")
        .unwrap()
        .flatten()
        .filter_map(|entry| fs::read_to_string(entry.path()).ok())
        .map(|text| text.lines().filter(|line| line.starts_with("inotify wd")).count())
        .sum()
}
