//! Images that are made here: no registry is asked for anything.

use std::{
    fs,
    os::unix::fs::symlink,
    path::{Path, PathBuf},
    process::Command,
};

use serde_json::{Value, json};

use super::sandbox::{output, run};
use crate::tools::write;

/// The name of the image that has a busybox and nothing else.
pub const IMAGE: &str = "localhost/podmeter-test:1";

/// The programs of busybox that are on its `PATH`.
const APPLETS: &[&str] = &["cat", "dd", "echo", "httpd", "nc", "sh", "sleep", "wget"];

/// Writes the image with busybox.
pub(super) fn of_busybox(busybox: &Path, dir: &Path) -> PathBuf {
    let image = Image::new(dir, "test", IMAGE);
    image.add(busybox, Path::new("/bin/busybox"));
    for applet in APPLETS {
        symlink("busybox", image.root.join("bin").join(applet)).expect("a link can be made");
    }
    fs::create_dir(image.root.join("data")).expect("a folder can be made");
    image.pack(&json!({ "Env": ["PATH=/bin"], "Cmd": ["sleep", "1000000"] }))
}

/// Writes an image that is a program, with the libraries that it wants.
pub(super) fn of_program(program: &Path, name: &str, dir: &Path) -> PathBuf {
    let image = Image::new(dir, "program", name);
    image.add(program, Path::new("/podmeter"));
    for library in libraries(program) {
        image.add(&library, &library);
    }
    image.pack(&json!({ "Entrypoint": ["/podmeter"] }))
}

/// The files that the dynamic linker takes for a program; none if it is static.
fn libraries(program: &Path) -> Vec<PathBuf> {
    let listed = output(Command::new("ldd").arg(program));
    let path = |line: &str| {
        // "libc.so.6 => /lib/libc.so.6 (0x…)", or the linker itself: "/lib64/ld-linux-x86-64.so.2 (0x…)".
        let found = line.split_once("=> ").map_or(line, |(_, found)| found);
        let path = found.split_whitespace().next().filter(|word| word.starts_with('/'));
        path.map(PathBuf::from)
    };
    listed.lines().filter_map(path).collect()
}

/// What an image is made of.
struct Image<'a> {
    /// The name by which it is asked for.
    name: &'a str,
    dir: PathBuf,
    /// The root of its one layer.
    root: PathBuf,
}

impl<'a> Image<'a> {
    fn new(dir: &Path, folder: &str, name: &'a str) -> Self {
        let dir = dir.join(format!("image-{folder}"));
        let root = dir.join("root");
        fs::create_dir_all(&root).expect("a folder can be made");
        Self { name, dir, root }
    }

    fn add(&self, file: &Path, at: &Path) {
        let to = self.root.join(at.strip_prefix("/").expect("a path from the root"));
        fs::create_dir_all(to.parent().expect("it is in a folder")).expect("it can be made");
        fs::copy(file, &to).unwrap_or_else(|error| panic!("copy {}: {error}", file.display()));
    }

    /// Writes it as an archive in Docker's format.
    fn pack(&self, config: &Value) -> PathBuf {
        let owner = ["--owner=0", "--group=0", "--create", "--file"];
        let layer = self.dir.join("layer.tar");
        run(Command::new("tar")
            .args(owner)
            .arg(&layer)
            .arg("--directory")
            .args([&self.root, Path::new(".")]));
        let sum = output(Command::new("sha256sum").arg(&layer));
        let sum = sum.split_whitespace().next().expect("it prints the sum first");
        let config = json!({
            "architecture": "amd64",
            "os": "linux",
            "config": config,
            "rootfs": { "type": "layers", "diff_ids": [format!("sha256:{sum}")] },
        });
        let manifest =
            json!([{ "Config": "config.json", "RepoTags": [self.name], "Layers": ["layer.tar"] }]);
        drop(write(&self.dir, "config.json", &config.to_string()));
        drop(write(&self.dir, "manifest.json", &manifest.to_string()));
        let image = self.dir.join("image.tar");
        let files = ["manifest.json", "config.json", "layer.tar"];
        run(Command::new("tar")
            .args(owner)
            .arg(&image)
            .arg("--directory")
            .arg(&self.dir)
            .args(files));
        image
    }
}
