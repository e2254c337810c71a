//! A private apt folder: other Debian suites of the machine's own archive, without touching the machine's apt.
//!
//! The index lies in the cache and is refreshed at most once a day, or when a wanted package is not in it.

pub(crate) mod sources;

use std::{
    cell::Cell,
    fs,
    path::{Path, PathBuf},
    process::Command,
    time::{Duration, Instant, SystemTime},
};

use anyhow::{Context as _, Result, bail};

use crate::{cache::Cache, console, process};

/// How old the index may be.
const MAX_INDEX_AGE: Duration = Duration::from_hours(24);
/// Debian's own keyring, for archives whose source names none.
const KEYRING: &str = "/usr/share/keyrings/debian-archive-keyring.gpg";

/// The folder of sources that have source packages.
const SOURCES: &str = "source";

/// Nothing that a person has is taken away for what is installed.
const INSTALL: &[&str] = &["install", "--yes", "--no-install-recommends", "--no-remove"];

/// The private folder.
#[derive(Debug)]
pub(crate) struct Apt {
    dir: PathBuf,
    /// The suite of backports to the machine's own release.
    backports: Option<String>,
    refreshed_now: Cell<bool>,
}

/// A package with its exact version.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Package {
    pub(crate) name: String,
    pub(crate) version: String,
}

impl Apt {
    /// Writes the private sources, and refreshes the index if it is old.
    pub(crate) fn open(cache: &Cache) -> Result<Self> {
        if process::find("apt-get").is_none() || process::find("dpkg-deb").is_none() {
            bail!("this is no Debian system: apt-get and dpkg-deb are missing");
        }
        let archives = sources::read(Path::new("/etc/apt"))?;
        let Some(main) = &archives.main else {
            bail!("this machine's apt sources name no Debian archive");
        };
        let backports = archives.own_release().map(|release| format!("{release}-backports"));
        let apt = Self { dir: cache.path("apt"), backports, refreshed_now: Cell::new(false) };
        apt.write_sources(&archives, main)?;
        if !apt.index_is_fresh() {
            apt.refresh()?;
        }
        Ok(apt)
    }

    /// Every offered package whose name begins so.
    pub(crate) fn names(&self, prefix: &str) -> Result<Vec<String>> {
        let names = process::output(self.command("apt-cache", "all").args(["pkgnames", prefix]))?;
        Ok(names.lines().map(Into::into).collect())
    }

    /// The offered versions of a package, newest first.
    pub(crate) fn versions(&self, name: &str) -> Result<Vec<String>> {
        let versions = self.madison(name)?;
        if versions.is_empty() && self.refresh_once()? {
            return self.madison(name);
        }
        Ok(versions)
    }

    /// The names in a package's `Depends`, without alternatives.
    pub(crate) fn depends(&self, package: &Package) -> Result<Vec<String>> {
        let wanted = format!("{}={}", package.name, package.version);
        let shown = process::output(self.command("apt-cache", "all").args(["show", &wanted]))?;
        let depends = shown.lines().find_map(|line| line.strip_prefix("Depends:")).unwrap_or("");
        let first_word = |item: &str| item.split_whitespace().next().map(Into::into);
        Ok(depends.split(',').filter(|item| !item.contains('|')).filter_map(first_word).collect())
    }

    /// Downloads packages and unpacks them into a folder.
    pub(crate) fn unpack(&self, packages: &[Package], into: &Path) -> Result<()> {
        for package in packages {
            let downloads = into.join(".downloads");
            fs::create_dir_all(&downloads)
                .with_context(|| format!("failed to create {}", downloads.display()))?;
            let wanted = format!("{}={}", package.name, package.version);
            let mut download = self.command("apt-get", "all");
            process::output(
                download.args(["--quiet", "download", &wanted]).current_dir(&downloads),
            )?;
            for entry in fs::read_dir(&downloads)? {
                let deb = entry?.path();
                process::output(Command::new("dpkg-deb").arg("--extract").arg(&deb).arg(into))?;
            }
            fs::remove_dir_all(&downloads)
                .with_context(|| format!("failed to remove {}", downloads.display()))?;
        }
        Ok(())
    }

    /// Downloads the files of a source package into a folder, from the one suite that sources are taken from.
    pub(crate) fn download_source(&self, name: &str, into: &Path) -> Result<()> {
        process::output(self.command("apt-get", SOURCES).args(["--quiet", "update"]))?;
        let mut download = self.command("apt-get", SOURCES);
        download.args(["--quiet", "source", "--download-only", name]);
        process::output(download.current_dir(into))?;
        Ok(())
    }

    /// Installs packages of the machine's own release system-wide, after naming them.
    pub(crate) fn install(&self, names: &[&str]) -> Result<()> {
        let mut choices = vec![Vec::new()];
        choices.extend(self.backports.clone().map(|suite| vec!["--target-release".into(), suite]));
        let simulated = |choice: &Vec<String>| {
            let mut simulation = self.command("apt-get", "own");
            simulation.arg("--simulate").args(INSTALL).args(choice).args(names);
            process::output(&mut simulation)
        };
        let mut errors = Vec::new();
        for choice in choices {
            let simulation = match simulated(&choice) {
                Ok(simulation) => simulation,
                Err(error) => {
                    errors.push(format!("{error:#}"));
                    continue;
                }
            };
            let all: Vec<&str> = simulation.lines().filter_map(installed_in).collect();
            let mut words: Vec<String> = self.options("own");
            words.extend(INSTALL.iter().map(|&word| word.into()));
            words.extend(choice);
            words.extend(names.iter().map(|&name| name.into()));
            return install_as_root(&words, names, &all);
        }
        bail!(
            "this release of Debian offers no installable {}\n{}",
            names.join(", "),
            errors.join("\n")
        );
    }

    /// Refreshes the index, unless this process already has.
    pub(crate) fn refresh_once(&self) -> Result<bool> {
        if self.refreshed_now.get() {
            return Ok(false);
        }
        self.refresh()?;
        Ok(true)
    }

    fn refresh(&self) -> Result<()> {
        let start = Instant::now();
        self.refreshed_now.set(true);
        let mut update = self.command("apt-get", "all");
        let output = update.arg("update").output().context("failed to start apt-get")?;
        // One suite that is gone from the archive must not take the others with it.
        for line in
            String::from_utf8_lossy(&output.stderr).lines().filter(|line| line.starts_with("E:"))
        {
            console::note(&format!("apt index: {line}"));
        }
        let has_index = fs::read_dir(self.dir.join("lists"))?
            .filter_map(Result::ok)
            .any(|entry| entry.file_name().to_string_lossy().contains("_Packages"));
        if !has_index {
            bail!(
                "apt could fetch no package index: is the network there? (`apt-get update` shows more)"
            );
        }
        fs::write(self.dir.join("refreshed"), "")?;
        console::did("apt index", "fetched", start.elapsed());
        Ok(())
    }

    fn index_is_fresh(&self) -> bool {
        let changed =
            fs::metadata(self.dir.join("refreshed")).and_then(|metadata| metadata.modified());
        changed.is_ok_and(|changed| {
            SystemTime::now().duration_since(changed).is_ok_and(|age| age < MAX_INDEX_AGE)
        })
    }

    fn madison(&self, name: &str) -> Result<Vec<String>> {
        let mut command = self.command("apt-cache", "all");
        // An unknown package is an error of apt-cache only in some versions.
        let output =
            command.args(["madison", name]).output().context("failed to start apt-cache")?;
        let text = String::from_utf8_lossy(&output.stdout).into_owned();
        let version = |line: &str| line.split('|').nth(1).map(|version| version.trim().to_owned());
        Ok(text.lines().filter_map(version).collect())
    }

    /// Writes three folders of sources: `all` to download from, `own` to install from, and one for source packages.
    ///
    /// A package that is installed must come from the machine's own release (or its backports): with other suites in
    /// sight apt would take the newest of every dependency, and half upgrade the machine.
    fn write_sources(&self, archives: &sources::Archives, main: &sources::Archive) -> Result<()> {
        for part in ["all", "own", SOURCES, "lists/partial", "lists-source/partial", "cache"] {
            let dir = self.dir.join(part);
            // The machine may have another release, or another mirror, since the last time.
            if ["all", "own", SOURCES].contains(&part) && dir.exists() {
                fs::remove_dir_all(&dir)
                    .with_context(|| format!("failed to remove {}", dir.display()))?;
            }
            fs::create_dir_all(&dir)
                .with_context(|| format!("failed to create {}", dir.display()))?;
        }
        let mut own = archives.own.clone();
        if let Some(backports) = &self.backports {
            own.push((backports.clone(), main.clone()));
        }
        for (suite, archive) in &own {
            self.write_source("own", suite, archive)?;
            self.write_source("all", suite, archive)?;
        }
        for codename in sources::SUITES {
            self.write_source("all", codename, main)?;
            if *codename == "sid" {
                continue;
            }
            if let Some(security) = &archives.security {
                self.write_source("all", &format!("{codename}-security"), security)?;
            }
            if *codename != "bullseye" {
                self.write_source("all", &format!("{codename}-backports"), main)?;
            }
        }
        self.write_source(SOURCES, sources::SOURCE_SUITE, main)
    }

    fn write_source(&self, part: &str, suite: &str, archive: &sources::Archive) -> Result<()> {
        let file_name = format!("{}.sources", suite.replace('/', "-"));
        let path = self.dir.join(part).join(file_name);
        let keyring = archive.signed_by.as_deref().unwrap_or(KEYRING);
        let uris = &archive.uris;
        let types = if part == SOURCES { "deb-src" } else { "deb" };
        let text = format!(
            "Types: {types}\nURIs: {uris}\nSuites: {suite}\nComponents: main\nSigned-By: {keyring}\n"
        );
        fs::write(&path, text).with_context(|| format!("failed to write {}", path.display()))
    }

    fn command(&self, program: &str, part: &str) -> Command {
        let mut command = Command::new(program);
        command.args(self.options(part)).env("LC_ALL", "C");
        command
    }

    fn options(&self, part: &str) -> Vec<String> {
        let dir = self.dir.display();
        // An update removes the lists of suites that its sources do not name.
        let lists = if part == SOURCES { "lists-source" } else { "lists" };
        let options = [
            "Dir::Etc::sourcelist=/dev/null".into(),
            format!("Dir::Etc::sourceparts={dir}/{part}"),
            format!("Dir::State::lists={dir}/{lists}"),
            format!("Dir::Cache={dir}/cache"),
            format!("Dir::Cache::pkgcache={part}.bin"),
            "Dir::Cache::srcpkgcache=".into(),
            "APT::Sandbox::User=root".into(),
            "Acquire::Languages=none".into(),
            "Acquire::IndexTargets::deb::DEP-11::DefaultEnabled=false".into(),
        ];
        options.into_iter().flat_map(|option: String| ["-o".into(), option]).collect()
    }
}

/// Installs packages with the machine's own apt, for a system that is no Debian but has apt.
pub(crate) fn install_with_own_apt(names: &[&str]) -> Result<()> {
    let mut words: Vec<String> = INSTALL.iter().map(|&word| word.into()).collect();
    words.extend(names.iter().map(|&name| name.into()));
    install_as_root(&words, names, names)
}

/// Installs, after naming all that it brings to the system.
fn install_as_root(words: &[String], names: &[&str], all: &[&str]) -> Result<()> {
    let Some(mut command) = process::as_root(Path::new("apt-get")) else {
        let names = names.join(" ");
        bail!(
            "not root, and sudo wants a password: run `sudo apt-get install {names}`, then start again"
        );
    };
    console::note(&format!("installing system-wide: {}", all.join(" ")));
    process::output(
        command.args(words).env("DEBIAN_FRONTEND", "noninteractive").env("LC_ALL", "C"),
    )?;
    Ok(())
}

/// The package in a line of a simulation that says what would be installed.
fn installed_in(line: &str) -> Option<&str> {
    line.strip_prefix("Inst ")?.split_whitespace().next()
}
