//! The container image that `cargo xtask image` built: what is in it, and a container of it by runc.

use std::{
    env, fs,
    path::{Path, PathBuf},
    process::{Command, Output},
};

use podmeter::caps::{Grant, NEEDS, Need};
use rustix::thread::{CapabilitySet, capability_is_in_bounding_set};
use serde_json::{Value, json};
use tempfile::TempDir;

use crate::{
    exporter::{Exporter, with_listen},
    tools::{tool, write},
};

/// An unpacked image.
#[derive(Debug)]
pub struct Image {
    /// What its config says of the process.
    pub config: Value,
    /// What `index.json` says of its one manifest.
    pub descriptor: Value,
    dir: TempDir,
    runc: PathBuf,
}

impl Image {
    /// Unpacks the image that was built, or says what is missing.
    #[must_use]
    pub fn unpack() -> Option<Self> {
        let archive = tool("PODMETER_IMAGE")?;
        let runc = tool("PODMETER_KUBERNETES")?.join("debian/usr/sbin/runc");
        let dir = tempfile::tempdir().expect("a temporary folder");
        let layout = dir.path().join("layout");
        untar(&archive, &layout);
        let index = json_file(&layout.join("index.json"));
        let descriptor = at(&index, "/manifests/0").clone();
        let manifest = json_file(&blob(&layout, &descriptor));
        let config = json_file(&blob(&layout, at(&manifest, "/config")));
        let Some([layer]) = at(&manifest, "/layers").as_array().map(Vec::as_slice) else {
            panic!("it has one layer: {manifest}");
        };
        untar(&blob(&layout, layer), &dir.path().join("rootfs"));
        Some(Self { config, descriptor, dir, runc })
    }

    /// Its files as `find` lists them: type, mode, owner, path.
    #[must_use]
    pub fn files(&self) -> String {
        let mut find = Command::new("find");
        find.arg(self.dir.path().join("rootfs")).args([
            "-mindepth",
            "1",
            "-printf",
            "%y %m %U %P\n",
        ]);
        String::from_utf8(find.output().expect("find runs").stdout).expect("text")
    }

    /// `podmeter run` in a container of the image, in the node's network as the `DaemonSet` has it, with these files
    /// mounted: where, and what is in it.
    #[must_use]
    pub fn start(&self, config: &str, files: &[(&str, &str)]) -> Exporter {
        let bundle = tempfile::tempdir().expect("a temporary folder");
        let config = with_listen(config);
        let mut runc = self.runc(bundle.path(), "run", &config, files);
        let file = bundle.path().join("config.json");
        Exporter::of_command(&mut runc, bundle, file)
    }

    /// The same for `podmeter check`, which ends by itself.
    #[must_use]
    pub fn check(&self, config: &str, files: &[(&str, &str)]) -> Output {
        let bundle = tempfile::tempdir().expect("a temporary folder");
        let mut runc = self.runc(bundle.path(), "check", config, files);
        runc.output().expect("runc starts")
    }

    fn runc(&self, bundle: &Path, command: &str, config: &str, files: &[(&str, &str)]) -> Command {
        let entrypoint = at(&self.config, "/config/Entrypoint").as_array().expect("a list");
        let config_path = "/etc/podmeter/podmeter.yaml";
        let mut args = entrypoint.clone();
        args.extend([command, "--config", config_path].map(Value::from));
        let mut mounts = vec![
            json!({ "destination": "/proc", "type": "proc", "source": "proc" }),
            json!({
                "destination": "/sys", "type": "none", "source": "/sys",
                "options": ["rbind", "ro", "nosuid", "noexec", "nodev"],
            }),
        ];
        for (idx, (path, text)) in files.iter().chain([&(config_path, config)]).enumerate() {
            let source = write(bundle, &format!("file-{idx}"), text);
            mounts.push(json!({
                "destination": path, "type": "none", "source": source, "options": ["bind", "ro"],
            }));
        }
        let capabilities = capabilities();
        let spec = json!({
            "ociVersion": "1.0.2",
            "process": {
                "terminal": false,
                "user": { "uid": 0, "gid": 0 },
                "args": args,
                "env": env_of(files),
                "cwd": "/",
                "noNewPrivileges": true,
                "capabilities": {
                    "bounding": capabilities, "effective": capabilities, "permitted": capabilities,
                },
            },
            "root": { "path": self.writable_copy(bundle), "readonly": true },
            "mounts": mounts,
            "linux": { "namespaces": [{ "type": "mount" }, { "type": "pid" }] },
        });
        drop(write(bundle, "config.json", &spec.to_string()));
        let id = format!("podmeter-image-{}", bundle.file_name().expect("a name").display());
        let mut runc = Command::new(&self.runc);
        runc.arg("--root").arg(bundle.join("state")).args(["run", "--bundle"]).arg(bundle).arg(id);
        runc
    }

    /// runc makes the mount points, so that each container has a root of its own.
    fn writable_copy(&self, bundle: &Path) -> PathBuf {
        let root = bundle.join("rootfs");
        fs::create_dir(&root).expect("a folder can be made");
        fs::copy(self.dir.path().join("rootfs/podmeter"), root.join("podmeter"))
            .expect("the binary can be copied");
        root
    }
}

/// Those of the chart's profile `capabilities` that this thread may give away: root in a container may lack one.
fn capabilities() -> Vec<String> {
    let granted = NEEDS.iter().filter(|need| need.grant == Grant::Always);
    let may_give = |need: &&Need| {
        let one = CapabilitySet::from_bits_retain(1 << need.capability.index());
        // A kernel that does not know it cannot give it.
        capability_is_in_bounding_set(one).unwrap_or(false)
    };
    granted.filter(may_give).map(|need| need.capability.to_string()).collect()
}

/// A container has the variables of its manifest and no others; a kubeconfig comes with the one that names it.
fn env_of(files: &[(&str, &str)]) -> Vec<String> {
    let mut variables = vec!["NODE_NAME=image-test".to_owned()];
    if files.iter().any(|(path, _)| *path == KUBECONFIG) {
        variables.push(format!("KUBECONFIG={KUBECONFIG}"));
    }
    variables.extend(env::var("RUST_LOG").ok().map(|filter| format!("RUST_LOG={filter}")));
    variables
}

/// Where a kubeconfig is found.
pub const KUBECONFIG: &str = "/etc/podmeter/kubeconfig";

fn untar(archive: &Path, dir: &Path) {
    fs::create_dir_all(dir).expect("a folder can be made");
    let output = Command::new("tar").arg("-xf").arg(archive).arg("-C").arg(dir).output();
    let output = output.expect("tar starts");
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{}: {said}", archive.display());
}

fn at<'a>(value: &'a Value, pointer: &str) -> &'a Value {
    value.pointer(pointer).unwrap_or_else(|| panic!("{pointer} is missing: {value}"))
}

fn json_file(path: &Path) -> Value {
    let text = fs::read(path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    serde_json::from_slice(&text).expect("it is JSON")
}

fn blob(layout: &Path, descriptor: &Value) -> PathBuf {
    let digest = at(descriptor, "/digest").as_str().expect("a digest");
    let digest = digest.strip_prefix("sha256:").expect("a SHA-256");
    layout.join("blobs/sha256").join(digest)
}
