//! `cargo xtask setup`: brings what the project needs and this machine lacks, and does nothing where all is there.

mod bpf_linker;
pub(crate) mod kubernetes;
pub(crate) mod packages;
mod rust_src;
mod tools;

use std::{cell::OnceCell, time::Instant};

use anyhow::{Context as _, Result};

pub(crate) use tools::{
    busybox, cadvisor, helm_path, node_exporter, prometheus_tool, python_path, victoria_metrics,
    vmagent,
};

use crate::{apt::Apt, cache::Cache, console, vm::kernel};

/// What the things are needed for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum Purpose {
    /// Build and run the exporter.
    Run,
    /// Also the tests on this machine.
    Test,
    /// The kernel tests on this machine, without what other tests need.
    Kernel,
    /// The kernel tests in virtual machines, without what other tests need.
    Vm,
    /// The tests against a real Kubernetes on this machine, without what other tests need.
    Cluster,
    /// The tests of faults, without what other tests need.
    Faults,
    /// The soak on this machine, without what other tests need.
    Soak,
    /// The benches of the probes and of the relay on this machine.
    Bench,
    /// The fuzz targets.
    Fuzz,
    /// The container image, and its tests.
    Image,
    /// The check of the Vagrantfile.
    Vagrant,
    /// Everything.
    All,
}

/// What the requirements work with.
#[derive(Debug)]
pub(crate) struct Setup {
    pub(crate) cache: Cache,
    apt: OnceCell<Apt>,
}

impl Setup {
    /// Opens the cache; apt is opened when a requirement first needs it.
    pub(crate) fn open() -> Result<Self> {
        Ok(Self { cache: Cache::open()?, apt: OnceCell::new() })
    }

    /// The private apt folder.
    pub(crate) fn apt(&self) -> Result<&Apt> {
        if let Some(apt) = self.apt.get() {
            return Ok(apt);
        }
        let apt = Apt::open(&self.cache)?;
        Ok(self.apt.get_or_init(|| apt))
    }
}

/// What becomes of a command where a requirement cannot be brought.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Without {
    /// It ends.
    Fails,
    /// It goes on, and passes over what needs it.
    GoesOn,
}

/// One thing that is needed.
struct Requirement {
    name: &'static str,
    why: &'static str,
    purposes: &'static [Purpose],
    without: Without,
    /// Whether it is there. Must be quick.
    present: fn(&Setup) -> bool,
    /// Brings it, and says what was done.
    bring: fn(&Setup) -> Result<String>,
}

const BUILD: &[Purpose] = &[
    Purpose::Run,
    Purpose::Test,
    Purpose::Kernel,
    Purpose::Vm,
    Purpose::Cluster,
    Purpose::Faults,
    Purpose::Soak,
    Purpose::Bench,
    Purpose::Fuzz,
    Purpose::Image,
];
const KERNEL_TESTS: &[Purpose] = &[Purpose::Kernel, Purpose::Vm];

const REQUIREMENTS: &[Requirement] = &[
    Requirement {
        name: "rust-src",
        why: "the eBPF programs need `core` built for the BPF target",
        purposes: BUILD,
        without: Without::Fails,
        present: rust_src::present,
        bring: rust_src::bring,
    },
    Requirement {
        name: "bpf-linker",
        why: "it links the eBPF programs",
        purposes: BUILD,
        without: Without::Fails,
        present: bpf_linker::present,
        bring: bpf_linker::bring,
    },
    Requirement {
        name: "prometheus",
        why: "tests let a real Prometheus scrape the page, in virtual machines and in a cluster too, and push \
              to one; the relay is compared with it",
        purposes: &[Purpose::Test, Purpose::Vm, Purpose::Cluster, Purpose::Soak, Purpose::Bench],
        without: Without::Fails,
        present: tools::prometheus_present,
        bring: tools::bring_prometheus,
    },
    Requirement {
        name: "vmagent",
        why: "the relay is compared with it",
        purposes: &[Purpose::Bench],
        without: Without::Fails,
        present: tools::vmagent_present,
        bring: tools::bring_vmagent,
    },
    Requirement {
        name: "node_exporter",
        why: "Podmeter's own families are compared with it",
        purposes: &[Purpose::Bench],
        without: Without::Fails,
        present: |setup| tools::node_exporter(&setup.cache).is_some(),
        bring: tools::bring_node_exporter,
    },
    Requirement {
        name: "cadvisor",
        why: "Podmeter's own families are compared with it",
        purposes: &[Purpose::Bench],
        without: Without::Fails,
        present: |setup| tools::cadvisor(&setup.cache).is_some(),
        bring: tools::bring_cadvisor,
    },
    Requirement {
        name: "victoria-metrics",
        why: "tests push to a real VictoriaMetrics",
        purposes: &[Purpose::Test],
        without: Without::Fails,
        present: tools::victoria_metrics_present,
        bring: tools::bring_victoria_metrics,
    },
    Requirement {
        name: "prometheus_client",
        why: "tests parse the OpenMetrics page with Python's strict parser",
        purposes: &[Purpose::Test],
        without: Without::Fails,
        present: tools::python_client_present,
        bring: tools::bring_python_client,
    },
    Requirement {
        name: "chromium",
        why: "a test lets it show the page for people",
        purposes: &[Purpose::Test],
        without: Without::GoesOn,
        present: |_| packages::chromium().is_some(),
        bring: |setup| packages::CHROMIUM.bring(setup),
    },
    Requirement {
        name: "g++",
        why: "libFuzzer, which runs the fuzz targets, is C++",
        purposes: &[Purpose::Fuzz],
        without: Without::Fails,
        present: |_| packages::CXX.present(),
        bring: |setup| packages::CXX.bring(setup),
    },
    Requirement {
        name: "qemu",
        why: "kernel tests run on other kernels in virtual machines",
        purposes: &[Purpose::Vm],
        without: Without::Fails,
        present: |_| packages::QEMU.present(),
        bring: |setup| packages::QEMU.bring(setup),
    },
    Requirement {
        name: "iproute2",
        why: "tests and the bench make networks with it, and tests compare with its counts",
        purposes: &[
            Purpose::Kernel,
            Purpose::Vm,
            Purpose::Cluster,
            Purpose::Faults,
            Purpose::Soak,
            Purpose::Bench,
        ],
        without: Without::Fails,
        present: |_| packages::IPROUTE.present(),
        bring: |setup| packages::IPROUTE.bring(setup),
    },
    Requirement {
        name: "util-linux",
        why: "tests start programs with few capabilities, and in namespaces",
        purposes: &[Purpose::Kernel, Purpose::Vm, Purpose::Cluster, Purpose::Soak],
        without: Without::Fails,
        present: |_| packages::UTIL_LINUX.present(),
        bring: |setup| packages::UTIL_LINUX.bring(setup),
    },
    Requirement {
        name: "ethtool",
        why: "kernel tests switch offloads with it",
        purposes: KERNEL_TESTS,
        without: Without::Fails,
        present: |_| packages::ETHTOOL.present(),
        bring: |setup| packages::ETHTOOL.bring(setup),
    },
    Requirement {
        name: "e2fsprogs",
        why: "kernel tests make file systems with it",
        purposes: KERNEL_TESTS,
        without: Without::Fails,
        present: |_| packages::E2FSPROGS.present(),
        bring: |setup| packages::E2FSPROGS.bring(setup),
    },
    Requirement {
        name: "kubernetes",
        why: "cluster tests run a real API server; this takes some minutes, once",
        purposes: &[Purpose::Cluster],
        without: Without::Fails,
        present: kubernetes::components_present,
        bring: kubernetes::bring_components,
    },
    Requirement {
        name: "etcd, kubectl, containerd, runc",
        why: "Kubernetes keeps its objects in the first, and runs containers with the last two",
        purposes: &[Purpose::Cluster, Purpose::Image],
        without: Without::Fails,
        present: kubernetes::peers_present,
        bring: kubernetes::bring_peers,
    },
    Requirement {
        name: "helm",
        why: "cluster tests install the chart with it",
        purposes: &[Purpose::Cluster],
        without: Without::GoesOn,
        present: tools::helm_present,
        bring: tools::bring_helm,
    },
    Requirement {
        name: "iptables",
        why: "kube-proxy works with it",
        purposes: &[Purpose::Cluster],
        without: Without::Fails,
        present: |_| packages::IPTABLES.present(),
        bring: |setup| packages::IPTABLES.bring(setup),
    },
    Requirement {
        name: "fio",
        why: "the bench of the probes reads blocks with it",
        purposes: &[Purpose::Bench],
        without: Without::Fails,
        present: |_| packages::FIO.present(),
        bring: |setup| packages::FIO.bring(setup),
    },
    Requirement {
        name: "iperf3",
        why: "the bench of the probes sends packets with it",
        purposes: &[Purpose::Bench],
        without: Without::Fails,
        present: |_| packages::IPERF.present(),
        bring: |setup| packages::IPERF.bring(setup),
    },
    Requirement {
        name: "buildah",
        why: "it builds the container image",
        purposes: &[Purpose::Image],
        without: Without::Fails,
        present: |_| packages::BUILDAH.present(),
        bring: |setup| packages::BUILDAH.bring(setup),
    },
    Requirement {
        name: "vagrant",
        why: "a test lets it read the Vagrantfile",
        purposes: &[Purpose::Vagrant],
        without: Without::GoesOn,
        present: |_| packages::VAGRANT.present(),
        bring: |setup| packages::VAGRANT.bring(setup),
    },
    Requirement {
        name: "busybox",
        why: "it is the userland of virtual machines and of containers",
        purposes: &[Purpose::Vm, Purpose::Cluster],
        without: Without::Fails,
        present: tools::busybox_present,
        bring: tools::bring_busybox,
    },
];

/// `cargo xtask setup`.
pub(crate) fn run(purpose: Purpose) -> Result<()> {
    let kernels: &[&str] = match purpose {
        Purpose::Vm | Purpose::All => kernel::DEFAULT,
        Purpose::Run
        | Purpose::Test
        | Purpose::Kernel
        | Purpose::Cluster
        | Purpose::Faults
        | Purpose::Soak
        | Purpose::Bench
        | Purpose::Fuzz
        | Purpose::Image
        | Purpose::Vagrant => &[],
    };
    let setup = Setup::open()?;
    let brought = ensure_with(&setup, purpose, kernels)?;
    if brought == 0 {
        console::say("nothing to do");
    }
    Ok(())
}

/// Brings what is missing for a purpose; other commands begin with this.
pub(crate) fn ensure(purpose: Purpose) -> Result<Setup> {
    ensure_kernels(purpose, &[])
}

/// The same, with guest kernels.
pub(crate) fn ensure_kernels(purpose: Purpose, kernels: &[&str]) -> Result<Setup> {
    let setup = Setup::open()?;
    ensure_with(&setup, purpose, kernels)?;
    Ok(setup)
}

/// Gives how many things were brought.
fn ensure_with(setup: &Setup, purpose: Purpose, kernels: &[&str]) -> Result<usize> {
    let wanted = |requirement: &Requirement| {
        purpose == Purpose::All || requirement.purposes.contains(&purpose)
    };
    let missing = |requirement: &Requirement| wanted(requirement) && !(requirement.present)(setup);
    let kernel_missing = |prefix: &str| kernel::cached(&setup.cache, prefix).is_none();
    if !REQUIREMENTS.iter().any(missing) && !kernels.iter().any(|prefix| kernel_missing(prefix)) {
        return Ok(0);
    }
    let _lock = setup.cache.lock()?;
    let mut n_brought = 0;
    // Asked again under the lock: another setup may have brought it meanwhile.
    for requirement in REQUIREMENTS.iter().filter(|requirement| missing(requirement)) {
        let Requirement { name, why, without, .. } = requirement;
        console::note(&format!("{name} is missing ({why})"));
        let start = Instant::now();
        let done = (requirement.bring)(setup).with_context(|| format!("{name} cannot be brought"));
        match (done, without) {
            (Ok(done), _) => {
                console::did(name, &done, start.elapsed());
                n_brought += 1;
            }
            (Err(error), Without::Fails) => return Err(error),
            (Err(error), Without::GoesOn) => console::note(&format!("{error:#}; going on without")),
        }
    }
    for prefix in kernels.iter().filter(|prefix| kernel_missing(prefix)) {
        let start = Instant::now();
        let kernel = kernel::fetch(setup, prefix)
            .with_context(|| format!("guest kernel {prefix} cannot be brought"))?;
        console::did(&format!("kernel {prefix}"), &kernel.release, start.elapsed());
        n_brought += 1;
    }
    Ok(n_brought)
}
