//! The host's own files: the table of readers, each as a source.
//!
//! `read` is IO, `parse` is pure.

pub mod cgroup_cpu;
pub mod cpu_files;
pub mod kept_files;
pub mod process;

use tracing::warn;

use self::cgroup_cpu::CgroupCpu;
use super::{Collected, Source, SourceError, SourceStats};
use crate::{
    cgroup::{hierarchy::Hierarchy, tree::CgroupTree},
    error_chain::one_line,
    metric::Desc,
    paths::HostPaths,
    subject::CgroupId,
};

/// One reader of the host's files: plain data, one row of [`HOST`].
pub struct HostDef {
    /// Its name in labels.
    pub name: &'static str,
    /// The families that it gives.
    pub metrics: &'static [Desc],
    /// Makes the source, if there is here what it reads.
    open: Open,
}

type Open = fn(Option<&Hierarchy>, &HostPaths) -> Option<Box<dyn Source>>;

/// Every reader, in the order of the documentation.
pub const HOST: &[HostDef] = &[
    HostDef {
        name: "cgroup_cpu",
        metrics: cgroup_cpu::METRICS,
        open: |hierarchy, paths| {
            let reader = CgroupCpu::new(hierarchy?, paths);
            Some(Box::new(CgroupCpuSource { reader, reported: None }))
        },
    },
    HostDef {
        name: "process",
        metrics: process::METRICS,
        open: |_, _| Some(Box::new(process::ProcessSource)),
    },
];

/// Every source that can be read here; without a hierarchy of cgroups there is none of cgroups.
#[must_use]
pub fn start(hierarchy: Option<&Hierarchy>, paths: &HostPaths) -> Vec<Box<dyn Source>> {
    HOST.iter().filter_map(|def| (def.open)(hierarchy, paths)).collect()
}

struct CgroupCpuSource {
    reader: CgroupCpu,
    /// The last failure that was logged: one that lasts is not logged at every scrape.
    reported: Option<String>,
}

impl Source for CgroupCpuSource {
    fn name(&self) -> &'static str {
        "cgroup_cpu"
    }

    fn collect(
        &mut self,
        tree: &CgroupTree,
        _freed: &[CgroupId],
    ) -> Result<Collected, SourceError> {
        let reading = self.reader.read(tree)?;
        let failure = reading.first_failure.as_ref().map(|error| one_line(error));
        if let Some(error) = failure.as_ref().filter(|error| self.reported.as_ref() != Some(error))
        {
            warn!(source = self.name(), n_failed = reading.n_failed, %error, "cgroups left out");
        }
        self.reported = failure;
        let stats = SourceStats::Files { n_failed: reading.n_failed };
        Ok(Collected { families: reading.families, stats })
    }
}
