//! Whether Vagrant takes the Vagrantfile; no machine is started, and no provider is needed.

use anyhow::Result;

use super::count::Count;
use crate::{cargo, process, setup::Setup};

/// `vagrant validate`, which is skipped where there is no Vagrant.
pub(super) fn validate(setup: &Setup) -> Result<Count> {
    let Some(vagrant) = process::find("vagrant") else {
        return Ok(Count::skipped("vagrant", "it is not here, and apt does not bring it"));
    };
    let mut command = std::process::Command::new(vagrant);
    command
        .args(["validate", "--ignore-provider"])
        .current_dir(cargo::root())
        // It would ask its maker for a newer version, and leave its state in the workspace and in the home.
        .env("VAGRANT_CHECKPOINT_DISABLE", "1")
        .env("VAGRANT_HOME", setup.cache.path("vagrant"))
        .env("VAGRANT_DOTFILE_PATH", setup.cache.path("vagrant/workspace"));
    process::run(&mut command)?;
    Ok(Count::passed(1))
}
