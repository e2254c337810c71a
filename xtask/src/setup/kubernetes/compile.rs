//! Compiles components of Kubernetes from Debian's source package, with Debian's Go of the same release.

use std::{
    collections::BTreeSet,
    env, fs,
    os::unix::fs::symlink,
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context as _, Result};

use crate::{
    apt::Apt,
    cache::{create_dir, remove_dir},
    process,
    setup::tools::newest,
};

/// What the components say of themselves; the package's own version has Debian's history in it.
const VERSION: &str = "v1.20.2";
const GO: &str = "1.19";
/// The import path of the source's root.
const ROOT: &str = "k8s.io/kubernetes";
/// Where a vendored library lies that panics when it is compiled by a Go newer than 1.17; Debian packages a newer one.
const REFLECT2: &str = "github.com/modern-go/reflect2";
/// Libraries whose packages ask for OpenAPI definitions of examples, or generate them.
const WITHOUT_OPENAPI: &[&str] = &["code-generator", "kube-openapi", "sample-apiserver"];
/// The one generated file that the source package lacks.
const OPENAPI_PACKAGE: &str = "pkg/generated/openapi";
const OPENAPI_FILE: &str = "zz_generated.openapi";

/// Compiles the components into `dir`, and leaves nothing else there.
pub(super) fn into(apt: &Apt, components: &[&str], dir: &Path) -> Result<()> {
    let work = dir.join("work");
    let tree = Tree::unpack(apt, &work)?;
    tree.replace_reflect2()?;
    tree.generate_openapi()?;
    // All at once: while one is linked, which takes one core, the next is compiled.
    let packages: Vec<String> =
        components.iter().map(|component| format!("./cmd/{component}")).collect();
    tree.go_build(&packages, &["-ldflags", &linker_flags()], dir)?;
    remove_dir(&work)
}

/// The unpacked source in a `GOPATH` of its own, and Go.
struct Tree {
    work: PathBuf,
    /// The root of the source, by its path in the `GOPATH`.
    source: PathBuf,
}

impl Tree {
    fn unpack(apt: &Apt, work: &Path) -> Result<Self> {
        let go = work.join("go");
        let packages = [
            newest(apt, &format!("golang-{GO}-go"), GO)?,
            newest(apt, &format!("golang-{GO}-src"), GO)?,
            newest(apt, "golang-github-modern-go-reflect2-dev", "1.0.2")?,
        ];
        apt.unpack(&packages, &go)?;
        let download = work.join("download");
        create_dir(&download)?;
        apt.download_source("kubernetes", &download)?;
        let tarball = with_suffix(&download, ".orig.tar.gz")?;
        let unpacked = work.join("source");
        create_dir(&unpacked)?;
        let mut tar = Command::new("tar");
        tar.args(["--extract", "--strip-components=1", "--file"]).arg(&tarball);
        process::output(tar.arg("--directory").arg(&unpacked))?;
        // Go 1.19 refuses the package's vendor folder in module mode; as a GOPATH it is fine.
        let source = work.join("gopath/src").join(ROOT);
        create_dir(source.parent().context("an import path has a parent")?)?;
        symlink(&unpacked, &source)
            .with_context(|| format!("failed to create {}", source.display()))?;
        Ok(Self { work: work.into(), source })
    }

    /// Without this the API server starts, and panics when the first pod is posted.
    fn replace_reflect2(&self) -> Result<()> {
        let vendored = self.source.join("vendor").join(REFLECT2);
        let packaged = self.work.join("go/usr/share/gocode/src").join(REFLECT2);
        remove_dir(&vendored)?;
        process::output(Command::new("cp").arg("--recursive").args([&packaged, &vendored]))?;
        Ok(())
    }

    fn generate_openapi(&self) -> Result<()> {
        let generator = self.work.join("openapi-gen");
        let package = "./vendor/k8s.io/kube-openapi/cmd/openapi-gen".to_owned();
        self.go_build(&[package], &[], &generator)?;
        let packages: Vec<String> = self.packages_with_openapi()?.into_iter().collect();
        let mut generate = self.command(&generator);
        generate
            .args(["--input-dirs", &packages.join(",")])
            .args(["--output-package", &format!("{ROOT}/{OPENAPI_PACKAGE}")])
            .args(["--output-file-base", OPENAPI_FILE])
            .args(["--go-header-file", "vendor/k8s.io/code-generator/hack/boilerplate.go.txt"])
            .arg("--report-filename")
            .arg(self.work.join("violations"));
        process::output(&mut generate)?;
        Ok(())
    }

    /// The import paths of the packages that are marked as wanting OpenAPI definitions.
    fn packages_with_openapi(&self) -> Result<BTreeSet<String>> {
        let mut folders = vec!["pkg/".to_owned()];
        let vendored = self.source.join("vendor/k8s.io");
        for entry in fs::read_dir(&vendored)
            .with_context(|| format!("failed to read {}", vendored.display()))?
        {
            let name = entry?.file_name().to_string_lossy().into_owned();
            if !WITHOUT_OPENAPI.contains(&name.as_str()) {
                // Most are links into `staging`, which are followed with a slash behind them.
                folders.push(format!("vendor/k8s.io/{name}/"));
            }
        }
        let mut grep = Command::new("grep");
        grep.args(["--recursive", "--files-with-matches", "--include=*.go"])
            .args(["--exclude-dir=testdata", "^// *+k8s:openapi-gen="])
            .args(&folders)
            .current_dir(&self.source);
        let files = process::output(&mut grep)?;
        let package = |file: &str| {
            let folder = Path::new(file).parent()?.display().to_string();
            Some(format!("{ROOT}/{}", folder.replace("//", "/")))
        };
        Ok(files.lines().filter_map(package).collect())
    }

    /// Builds one package into a file, or several into a folder that is there.
    fn go_build(&self, packages: &[String], flags: &[&str], to: &Path) -> Result<()> {
        let go = self.work.join("go/usr/lib").join(format!("go-{GO}/bin/go"));
        let mut build = self.command(&go);
        build.arg("build").args(flags).arg("-o").arg(to).args(packages);
        process::output(&mut build)?;
        Ok(())
    }

    /// A command in the root of the source, with an environment in which Go finds nothing but what is here.
    fn command(&self, program: &Path) -> Command {
        let goroot_bin = self.work.join("go/usr/lib").join(format!("go-{GO}/bin"));
        let mut path = goroot_bin.into_os_string();
        if let Some(rest) = env::var_os("PATH") {
            path.push(":");
            path.push(rest);
        }
        let mut command = Command::new(program);
        command
            .current_dir(&self.source)
            .env("PATH", path)
            .env("PWD", &self.source)
            .env("HOME", self.work.join("home"))
            .env("GOPATH", self.work.join("gopath"))
            .env("GOCACHE", self.work.join("gocache"))
            .env("GO111MODULE", "off")
            .env("GOFLAGS", "")
            .env("GOPROXY", "off")
            .env("CGO_ENABLED", "0");
        command
    }
}

/// Without debugging symbols, and with the version that the components tell each other.
fn linker_flags() -> String {
    let mut flags = "-s -w".to_owned();
    for package in ["k8s.io/component-base/version", "k8s.io/client-go/pkg/version"] {
        for root in [String::new(), format!("{ROOT}/vendor/")] {
            for (name, value) in [("Version", VERSION), ("Major", "1"), ("Minor", "20")] {
                flags.extend([" -X ", &root, package, ".git", name, "=", value]);
            }
        }
    }
    flags
}

fn with_suffix(dir: &Path, suffix: &str) -> Result<PathBuf> {
    let entries = fs::read_dir(dir).with_context(|| format!("failed to read {}", dir.display()))?;
    let mut paths = entries.filter_map(|entry| Some(entry.ok()?.path()));
    let found = paths.find(|path| path.to_string_lossy().ends_with(suffix));
    found.with_context(|| format!("{} has no file *{suffix}", dir.display()))
}
