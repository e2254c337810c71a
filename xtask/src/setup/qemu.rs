//! `qemu-system-x86_64`: runs the guest kernels.

use anyhow::{Context as _, Result};

use super::Setup;
use crate::{apt, process};

const PROGRAM: &str = "qemu-system-x86_64";
const PACKAGE: &str = "qemu-system-x86";

pub(super) fn present(_setup: &Setup) -> bool {
    process::find(PROGRAM).is_some()
}

pub(super) fn bring(setup: &Setup) -> Result<String> {
    let installed = match setup.apt() {
        Ok(apt) => apt.install(&[PACKAGE]),
        Err(_) => apt::install_with_own_apt(&[PACKAGE]),
    };
    installed.with_context(|| {
        format!("it is installed from packages only: have {PROGRAM} on PATH, and start again")
    })?;
    Ok(format!("package {PACKAGE} installed"))
}
