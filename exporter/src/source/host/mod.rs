//! The host's own files: the table of readers, each as a source.
//!
//! `read` is IO, `parse` is pure.

mod cgroup_cpu;
mod cgroup_pressure;
pub mod cpu_files;
#[cfg(any(test, fuzzing))]
pub mod fuzzing;
pub mod kept_files;
mod per_cgroup;
pub mod process;

use std::fs;

use tracing::info;

use self::{
    cgroup_cpu::CgroupCpu,
    cgroup_pressure::CgroupPressure,
    kept_files::{Room, max_kept_files},
    per_cgroup::CgroupFiles,
};
use super::Source;
use crate::{
    cgroup::hierarchy::{Hierarchy, Version},
    metric::Desc,
    paths::HostPaths,
};

/// One reader of the host's files: plain data, one row of [`HOST`].
pub struct HostDef {
    /// Its name in labels.
    pub name: &'static str,
    /// The families that it gives.
    pub metrics: &'static [Desc],
    /// Makes the source.
    open: Open,
}

/// How a source is made.
enum Open {
    /// It reads the files of each cgroup, and keeps them open where there is room; there is none where the hierarchy cannot
    /// have such files, and then it says so.
    Cgroups(fn(&'static str, &Hierarchy, Room) -> Option<Box<dyn Source>>),
    /// It reads files of the whole machine.
    Machine(fn() -> Box<dyn Source>),
}

/// Every reader, in the order of the documentation.
pub const HOST: &[HostDef] = &[
    HostDef {
        name: "cgroup_cpu",
        metrics: cgroup_cpu::METRICS,
        open: Open::Cgroups(|name, hierarchy, room| {
            Some(Box::new(CgroupFiles::new(name, CgroupCpu::new(hierarchy, room))))
        }),
    },
    HostDef {
        name: "cgroup_pressure",
        metrics: cgroup_pressure::METRICS,
        open: Open::Cgroups(|name, hierarchy, room| {
            if hierarchy.version == Version::V1 {
                info!(source = name, reason = "cgroup v1 has no pressure files", "off");
                return None;
            }
            Some(Box::new(CgroupFiles::new(name, CgroupPressure::new(hierarchy, room))))
        }),
    },
    HostDef {
        name: "process",
        metrics: process::METRICS,
        open: Open::Machine(|| Box::<process::ProcessSource>::default()),
    },
];

/// Every source that can be read here; without a hierarchy of cgroups there is none of cgroups.
#[must_use]
pub fn start(hierarchy: Option<&Hierarchy>, paths: &HostPaths) -> Vec<Box<dyn Source>> {
    let limits = fs::read_to_string(paths.proc.join("self/limits")).unwrap_or_default();
    let room = Room::of(max_kept_files(&limits));
    let open = |def: &HostDef| match def.open {
        Open::Cgroups(open) => open(def.name, hierarchy?, room.clone()),
        Open::Machine(open) => Some(open()),
    };
    HOST.iter().filter_map(open).collect()
}
