//! Cgroups of a test: made under the hierarchy that has a controller, and removed with everything in them.

use std::{
    fs, iter,
    os::unix::fs::MetadataExt as _,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    thread,
    time::{Duration, Instant},
};

use podmeter::subject::CgroupId;
use rustix::{
    process::Pid,
    thread::{CpuSet, sched_getaffinity, sched_setaffinity},
};

/// How long a test waits for the kernel: virtual machines without KVM are slow.
pub const PATIENCE: Duration = Duration::from_mins(1);

/// The hierarchy that has a controller.
#[derive(Clone, Debug)]
pub struct Hierarchy {
    mount: PathBuf,
    is_v2: bool,
    controller: &'static Controller,
}

/// A controller, and where it is.
#[derive(Debug)]
struct Controller {
    /// What cgroup v1 calls it.
    v1: &'static str,
    /// Where Linux distributions and containers mount its v1 hierarchy.
    v1_mounts: &'static [&'static str],
    /// A file that each cgroup of v1 has by it.
    v1_file: &'static str,
    /// What is switched on for it in cgroup v2.
    v2: &'static [&'static str],
}

const CPU: Controller = Controller {
    v1: "cpu",
    v1_mounts: &["/sys/fs/cgroup/cpu", "/sys/fs/cgroup/cpu,cpuacct"],
    v1_file: "cpu.cfs_quota_us",
    v2: &["cpu"],
};

const IO: Controller = Controller {
    v1: "blkio",
    v1_mounts: &["/sys/fs/cgroup/blkio"],
    v1_file: "blkio.throttle.io_service_bytes",
    // Who made a page dirty is known by the memory controller.
    v2: &["io", "memory"],
};

/// A cgroup and the processes that were started in it.
#[derive(Debug)]
pub struct TestCgroup {
    hierarchy: Hierarchy,
    path: PathBuf,
    burners: Vec<Child>,
}

/// What `cpu.stat` says of throttling.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct CpuStat {
    /// Periods that began while the group had something to run.
    pub n_periods: u64,
    /// Periods in which it was throttled.
    pub n_throttled: u64,
    /// Time that its run queues were throttled, in nanoseconds, summed over CPUs.
    pub throttled_ns: u64,
}

impl Hierarchy {
    /// Finds the one that has the cpu controller, or says why no test can use it.
    pub fn find() -> Result<Self, String> {
        Self::find_with(&CPU)
    }

    /// Finds the one that has the io controller, or says why no test can use it.
    pub fn find_io() -> Result<Self, String> {
        Self::find_with(&IO)
    }

    fn find_with(controller: &'static Controller) -> Result<Self, String> {
        let v1_mounts = controller.v1_mounts.iter().map(|mount| (*mount, false));
        for (mount, is_v2) in iter::once(("/sys/fs/cgroup", true)).chain(v1_mounts) {
            let mount = PathBuf::from(mount);
            let marker = if is_v2 { "cgroup.controllers" } else { controller.v1_file };
            if !mount.join(marker).exists() {
                continue;
            }
            if is_v2 {
                controller.enable(&mount);
            }
            let probe = mount.join(format!("podmeter-test-{}", std::process::id()));
            fs::create_dir(&probe)
                .map_err(|error| format!("cannot make {}: {error}", probe.display()))?;
            fs::remove_dir(&probe)
                .map_err(|error| format!("cannot remove {}: {error}", probe.display()))?;
            return Ok(Self { mount, is_v2, controller });
        }
        let name = controller.v1;
        Err(format!("no cgroup hierarchy with the {name} controller under /sys/fs/cgroup"))
    }

    /// Where it is mounted.
    #[must_use]
    pub fn mount(&self) -> &Path {
        &self.mount
    }

    /// Whether it is cgroup v2.
    #[must_use]
    pub fn is_v2(&self) -> bool {
        self.is_v2
    }

    /// Makes a cgroup at the top.
    #[must_use]
    pub fn create(&self, name: &str) -> TestCgroup {
        self.create_at(self.mount.join(format!("podmeter-{}-{name}", std::process::id())))
    }

    /// Makes a cgroup at the top with a name that means something, or says why not: it may be somebody's.
    pub fn create_as(&self, name: &str) -> Result<TestCgroup, String> {
        let path = self.mount.join(name);
        fs::create_dir(&path)
            .map_err(|error| format!("cannot make {}: {error}", path.display()))?;
        Ok(TestCgroup { hierarchy: self.clone(), path, burners: Vec::new() })
    }

    /// The directory of the cgroup that this process is in.
    fn of_this_process(&self) -> PathBuf {
        let text = fs::read_to_string("/proc/self/cgroup").expect("procfs is mounted");
        // A line is `id:controllers:path`; cgroup2 has no controllers there.
        let path = text.lines().find_map(|line| {
            let (_, rest) = line.split_once(':')?;
            let (controllers, path) = rest.split_once(':')?;
            let has_it = controllers.split(',').any(|name| name == self.controller.v1);
            let is_ours = if self.is_v2 { controllers.is_empty() } else { has_it };
            is_ours.then(|| path.trim_start_matches('/'))
        });
        self.mount.join(path.expect("this process is in a cgroup of the hierarchy"))
    }

    fn create_at(&self, path: PathBuf) -> TestCgroup {
        fs::create_dir(&path).unwrap_or_else(|error| panic!("mkdir {}: {error}", path.display()));
        TestCgroup { hierarchy: self.clone(), path, burners: Vec::new() }
    }
}

impl TestCgroup {
    /// Makes a cgroup inside this one, with the hierarchy's controller.
    #[must_use]
    pub fn create_child(&self, name: &str) -> TestCgroup {
        if self.hierarchy.is_v2 {
            self.hierarchy.controller.enable(&self.path);
        }
        self.hierarchy.create_at(self.path.join(name))
    }

    /// Its directory.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The hierarchy that it is in.
    #[must_use]
    pub fn hierarchy(&self) -> &Hierarchy {
        &self.hierarchy
    }

    /// Its path within the hierarchy, as Podmeter shows it.
    #[must_use]
    pub fn relative_path(&self) -> String {
        let relative = self.path.strip_prefix(&self.hierarchy.mount).expect("made below the mount");
        format!("/{}", relative.display())
    }

    /// Its id.
    #[must_use]
    pub fn id(&self) -> CgroupId {
        CgroupId(fs::metadata(&self.path).expect("the cgroup is there").ino())
    }

    /// Limits it to `quota_us` microseconds of CPU in each 100 ms.
    pub fn set_quota(&self, quota_us: u64) {
        if self.hierarchy.is_v2 {
            self.write("cpu.max", &format!("{quota_us} 100000"));
        } else {
            self.write("cpu.cfs_period_us", "100000");
            self.write("cpu.cfs_quota_us", &quota_us.to_string());
        }
    }

    /// Gives it the least share of the CPUs, so that its tasks wait for those of others even when they have just woken.
    pub fn set_least_weight(&self) {
        let (file, weight) =
            if self.hierarchy.is_v2 { ("cpu.weight", "1") } else { ("cpu.shares", "2") };
        self.write(file, weight);
    }

    /// Starts `n` endless loops in it.
    pub fn burn(&mut self, n: usize) {
        for _ in 0..n {
            let child = Command::new("sh")
                .args(["-c", "echo 0 > \"$0/cgroup.procs\" && while :; do :; done"])
                .arg(&self.path)
                .stdin(Stdio::null())
                .spawn()
                .expect("sh starts");
            self.burners.push(child);
        }
        wait_for("the loops are in the cgroup", || self.n_processes() >= n);
    }

    /// Starts two endless loops in it on each CPU, which they do not leave: a scheduler that balances whole cgroups may
    /// leave a CPU to another one.
    pub fn burn_everywhere(&mut self) {
        let allowed = sched_getaffinity(None).expect("the kernel says it");
        let cpus: Vec<usize> = (0..CpuSet::MAX_CPU).filter(|&cpu| allowed.is_set(cpu)).collect();
        self.burn(2 * cpus.len());
        for (child, &cpu) in self.burners.iter().zip(cpus.iter().cycle()) {
            let mut one = CpuSet::new();
            one.set(cpu);
            sched_setaffinity(Some(Pid::from_child(child)), &one).expect("it runs");
        }
    }

    /// Moves this process into it for as long as the result lives: sockets that are made meanwhile belong to it.
    ///
    /// All threads move, so tests that do this run one at a time, as `cargo xtask` lets all kernel tests.
    #[must_use]
    pub fn enter(&self) -> Inside {
        let before = self.hierarchy.of_this_process();
        self.write("cgroup.procs", "0");
        Inside { before }
    }

    /// Ends the loops and waits until nothing runs in the cgroup and no throttle of it is under way.
    pub fn stop(&mut self) {
        for child in &mut self.burners {
            drop(child.kill());
            drop(child.wait());
        }
        self.burners.clear();
        wait_for("the cgroup is empty", || self.n_processes() == 0);
    }

    /// What the kernel counted.
    #[must_use]
    pub fn cpu_stat(&self) -> CpuStat {
        let text = self.read("cpu.stat");
        let field = |name: &str| {
            let line = text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' '));
            line.map_or(0, |value| value.trim().parse().expect("a number"))
        };
        let throttled_ns = if self.hierarchy.is_v2 {
            field("throttled_usec") * 1000
        } else {
            field("throttled_time")
        };
        CpuStat { n_periods: field("nr_periods"), n_throttled: field("nr_throttled"), throttled_ns }
    }

    fn n_processes(&self) -> usize {
        self.read("cgroup.procs").lines().count()
    }

    /// The text of one of its files.
    #[must_use]
    pub fn read(&self, file: &str) -> String {
        let path = self.path.join(file);
        fs::read_to_string(&path).unwrap_or_else(|error| panic!("read {}: {error}", path.display()))
    }

    /// Writes into one of its files.
    pub fn write(&self, file: &str, value: &str) {
        let path = self.path.join(file);
        fs::write(&path, value).unwrap_or_else(|error| panic!("write {}: {error}", path.display()));
    }
}

/// This process in a cgroup; it goes back to where it was.
#[derive(Debug)]
pub struct Inside {
    before: PathBuf,
}

impl Drop for Inside {
    fn drop(&mut self) {
        let path = self.before.join("cgroup.procs");
        if let Err(error) = fs::write(&path, "0") {
            eprintln!("left behind: this process is not in {}: {error}", path.display());
        }
    }
}

impl Drop for TestCgroup {
    fn drop(&mut self) {
        for child in &mut self.burners {
            drop(child.kill());
            drop(child.wait());
        }
        // A cgroup is busy for a moment after its last process has gone.
        let deadline = Instant::now() + PATIENCE;
        while let Err(error) = fs::remove_dir(&self.path) {
            if error.raw_os_error() != Some(EBUSY) || Instant::now() > deadline {
                eprintln!("left behind: {}: {error}", self.path.display());
                return;
            }
            thread::yield_now();
        }
    }
}

const EBUSY: i32 = 16;

/// Waits until the condition holds, or fails the test.
pub fn wait_for(what: &str, mut condition: impl FnMut() -> bool) {
    let deadline = Instant::now() + PATIENCE;
    while !condition() {
        assert!(Instant::now() < deadline, "waited {PATIENCE:?} in vain: {what}");
        thread::sleep(POLL_TIME);
    }
}

/// Long enough that a guest which waits leaves its CPU to the one beside it.
const POLL_TIME: Duration = Duration::from_millis(5);

impl Controller {
    /// Switches it on for the cgroups in one of cgroup v2.
    fn enable(&self, path: &Path) {
        for name in self.v2 {
            // Where it is on already, or the cgroup has processes, the test's own first read says so.
            drop(fs::write(path.join("cgroup.subtree_control"), format!("+{name}")));
        }
    }
}
