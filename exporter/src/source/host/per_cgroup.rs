//! The files of every cgroup of one hierarchy, by one loop for all readers: the live are read, and those that ended keep
//! their counters for as long as the tree knows them.

use std::{collections::HashMap, path::PathBuf, sync::Arc};

use tracing::{info, warn};

use crate::{
    cgroup::{
        hierarchy::{Hierarchy, Version},
        tree::{CgroupEntry, CgroupTree},
    },
    error_chain::one_line,
    metric::Family,
    source::{
        Collected, Source, SourceError, SourceStats,
        host::kept_files::{FileReader, ReadError, Room},
    },
    subject::{CgroupId, Subject},
};

/// What one reader keeps about one cgroup: its open files and its last numbers.
pub(super) trait Account: Default + Send {
    /// The samples of all families.
    type Samples: Default;

    /// What it means where no cgroup has any number, for people; none where that is as it should be.
    const IF_NONE: Option<&'static str>;

    /// Reads the files of the directory that the reader is in.
    fn read(
        &mut self,
        files: &mut FileReader,
        version: Version,
        id: CgroupId,
    ) -> Result<(), ReadError>;

    /// The cgroup ended: its files are closed, and what is true only of a live one is dropped.
    fn end(&mut self, files: &mut FileReader);

    /// Whether there is anything that outlives the cgroup.
    fn has_counters(&self) -> bool;

    /// Adds what is known to the samples.
    fn give(&self, id: CgroupId, samples: &mut Self::Samples);

    /// The samples by family, always all families.
    fn families(samples: Self::Samples) -> Vec<Family>;
}

/// What one read gave.
#[derive(Debug)]
pub(super) struct Reading {
    /// All families of the reader.
    pub(super) families: Vec<Family>,
    /// Cgroups that are missing because of a file that could not be read or parsed.
    pub(super) n_failed: u64,
    /// The first of these failures.
    pub(super) first_failure: Option<ReadError>,
}

/// Reads the files of all cgroups of one hierarchy.
#[derive(Debug)]
pub(super) struct PerCgroup<A> {
    version: Version,
    mount_point: PathBuf,
    /// No larger than the tree.
    accounts: HashMap<CgroupId, A>,
    files: FileReader,
}

impl<A: Account> PerCgroup<A> {
    /// A reader without any last values, which keeps files open where there is room.
    #[must_use]
    pub(super) fn new(hierarchy: &Hierarchy, room: Room) -> Self {
        Self {
            version: hierarchy.version,
            mount_point: hierarchy.mount_point.clone(),
            accounts: HashMap::new(),
            files: FileReader::new(room),
        }
    }

    /// Reads every live cgroup's files; blocks on the kernel for microseconds per cgroup.
    ///
    /// A cgroup that vanishes meanwhile is no failure. An error means that nothing at all could be read.
    pub(super) fn read(&mut self, tree: &CgroupTree) -> Result<Reading, ReadError> {
        self.end_dead(tree);
        let mut samples = A::Samples::default();
        let mut n_read = 0_usize;
        let mut n_failed = 0;
        let mut first_failure = None;
        for entry in tree.iter() {
            if entry.is_live() {
                let account = self.accounts.entry(entry.id).or_default();
                self.files.enter(&self.mount_point, &entry.path);
                if let Err(error) = account.read(&mut self.files, self.version, entry.id) {
                    n_failed += 1;
                    first_failure.get_or_insert(error);
                    continue;
                }
                n_read += 1;
            }
            if let Some(account) = self.accounts.get(&entry.id) {
                account.give(entry.id, &mut samples);
            }
        }
        match first_failure {
            Some(error) if n_read == 0 => Err(error),
            first_failure => {
                Ok(Reading { families: A::families(samples), n_failed, first_failure })
            }
        }
    }

    /// Closes the files of the dead and forgets the freed.
    fn end_dead(&mut self, tree: &CgroupTree) {
        self.accounts.retain(|&id, account| {
            let entry = tree.get(id);
            if entry.is_some_and(CgroupEntry::is_live) {
                return true;
            }
            account.end(&mut self.files);
            entry.is_some() && account.has_counters()
        });
    }

    #[cfg(test)]
    pub(super) fn n_kept(&self) -> usize {
        self.accounts.len()
    }
}

/// Such a reader as a source.
pub(super) struct CgroupFiles<A> {
    name: &'static str,
    reader: PerCgroup<A>,
    /// The last failure that was logged: one that lasts is not logged at every scrape.
    reported: Option<String>,
    /// It was said that there is nothing here.
    said_none: bool,
}

impl<A> CgroupFiles<A> {
    pub(super) fn new(name: &'static str, reader: PerCgroup<A>) -> Self {
        Self { name, reader, reported: None, said_none: false }
    }
}

impl<A: Account> Source for CgroupFiles<A> {
    fn name(&self) -> &'static str {
        self.name
    }

    fn collect(
        &mut self,
        tree: &Arc<CgroupTree>,
        _freed: &[Subject],
    ) -> Result<Collected, SourceError> {
        let reading = self.reader.read(tree)?;
        let failure = reading.first_failure.as_ref().map(|error| one_line(error));
        if let Some(error) = failure.as_ref().filter(|error| self.reported.as_ref() != Some(error))
        {
            warn!(source = self.name, n_failed = reading.n_failed, %error, "cgroups left out");
        }
        self.reported = failure;
        let is_empty = reading.families.iter().all(|family| family.samples.is_empty());
        if let Some(reason) = A::IF_NONE.filter(|_| is_empty && !self.said_none && !tree.is_empty())
        {
            info!(source = self.name, reason, "nothing to read here");
            self.said_none = true;
        }
        let stats = SourceStats::Files { n_failed: reading.n_failed };
        Ok(Collected { families: reading.families, stats })
    }
}
