//! The user's cache folder: everything that `setup` brings and that needs no place in the system.

use std::{
    env,
    fs::{self, File},
    path::{Path, PathBuf},
};

use anyhow::{Context as _, Result};

/// `$PODMETER_CACHE`, else `$XDG_CACHE_HOME/podmeter`, else `~/.cache/podmeter`.
#[derive(Debug)]
pub(crate) struct Cache {
    root: PathBuf,
}

impl Cache {
    /// Finds the cache and creates its folder.
    pub(crate) fn open() -> Result<Self> {
        let root = root().context(
            "there is no place for a cache: set PODMETER_CACHE to a folder (HOME is not set either)",
        )?;
        create_dir(&root)?;
        Ok(Self { root })
    }

    /// A path in the cache, which need not exist.
    pub(crate) fn path(&self, relative: impl AsRef<Path>) -> PathBuf {
        self.root.join(relative)
    }

    /// Takes the lock that keeps two setups apart, until the file is dropped.
    pub(crate) fn lock(&self) -> Result<File> {
        let path = self.path("setup.lock");
        let file =
            File::create(&path).with_context(|| format!("failed to create {}", path.display()))?;
        file.lock().with_context(|| format!("failed to lock {}", path.display()))?;
        Ok(file)
    }

    /// Fills a folder of the cache all or nothing: `fill` works on a new folder, which then gets the name.
    pub(crate) fn fill(
        &self,
        relative: impl AsRef<Path>,
        fill: impl FnOnce(&Path) -> Result<()>,
    ) -> Result<PathBuf> {
        let finished = self.path(relative);
        let mut partial = finished.clone().into_os_string();
        partial.push(".partial");
        let partial = PathBuf::from(partial);
        remove_dir(&partial)?;
        fs::create_dir_all(&partial)
            .with_context(|| format!("failed to create {}", partial.display()))?;
        fill(&partial)?;
        remove_dir(&finished)?;
        fs::rename(&partial, &finished)
            .with_context(|| format!("failed to name {}", finished.display()))?;
        Ok(finished)
    }
}

fn root() -> Option<PathBuf> {
    let set = |name| env::var_os(name).filter(|value| !value.is_empty()).map(PathBuf::from);
    set("PODMETER_CACHE")
        .or_else(|| set("XDG_CACHE_HOME").map(|cache| cache.join("podmeter")))
        .or_else(|| set("HOME").map(|home| home.join(".cache/podmeter")))
}

/// Makes a folder, and those that it is in.
pub(crate) fn create_dir(dir: &Path) -> Result<()> {
    fs::create_dir_all(dir).with_context(|| format!("failed to create {}", dir.display()))
}

/// Removes a folder with all that is in it; there need be none.
pub(crate) fn remove_dir(dir: &Path) -> Result<()> {
    if !dir.exists() {
        return Ok(());
    }
    fs::remove_dir_all(dir).with_context(|| format!("failed to remove {}", dir.display()))
}
