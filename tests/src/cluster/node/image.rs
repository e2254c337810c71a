//! An image with a busybox and nothing else, made here: no registry is asked for anything.

use std::{
    fs,
    os::unix::fs::symlink,
    path::{Path, PathBuf},
    process::Command,
};

use serde_json::json;

use super::sandbox::run;
use crate::tools::write;

/// The name of the image.
pub const IMAGE: &str = "localhost/podmeter-test:1";

/// The programs of busybox that are on the image's `PATH`.
const APPLETS: &[&str] = &["cat", "dd", "echo", "httpd", "nc", "sh", "sleep", "wget"];

/// Writes the image as an archive in Docker's format.
pub(super) fn make(busybox: &Path, dir: &Path) -> PathBuf {
    let bin = dir.join("root/bin");
    for folder in [&bin, &dir.join("root/data")] {
        fs::create_dir_all(folder).expect("a folder can be made");
    }
    fs::copy(busybox, bin.join("busybox")).expect("busybox can be copied");
    for applet in APPLETS {
        symlink("busybox", bin.join(applet)).expect("a link can be made");
    }
    let owner = ["--owner=0", "--group=0", "--create", "--file"];
    let layer = dir.join("layer.tar");
    run(Command::new("tar")
        .args(owner)
        .arg(&layer)
        .arg("--directory")
        .args([&dir.join("root"), Path::new(".")]));
    let sum = Command::new("sha256sum").arg(&layer).output().expect("sha256sum runs");
    let sum = String::from_utf8_lossy(&sum.stdout).into_owned();
    let sum = sum.split_whitespace().next().expect("it prints the sum first");
    let config = json!({
        "architecture": "amd64",
        "os": "linux",
        "config": { "Env": ["PATH=/bin"], "Cmd": ["sleep", "1000000"] },
        "rootfs": { "type": "layers", "diff_ids": [format!("sha256:{sum}")] },
    });
    let manifest =
        json!([{ "Config": "config.json", "RepoTags": [IMAGE], "Layers": ["layer.tar"] }]);
    drop(write(dir, "config.json", &config.to_string()));
    drop(write(dir, "manifest.json", &manifest.to_string()));
    let image = dir.join("image.tar");
    let files = ["manifest.json", "config.json", "layer.tar"];
    run(Command::new("tar").args(owner).arg(&image).arg("--directory").arg(dir).args(files));
    image
}
