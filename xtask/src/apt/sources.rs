//! The machine's own apt sources, read for one thing: where its Debian archive is.
//!
//! Both formats are understood, `.list` (one line per source) and `.sources` (deb822). Nothing is ever written there.

use std::{fs, path::Path};

use anyhow::{Context as _, Result};

/// Debian's suites, oldest first, whose archive has what the project takes from it.
pub(crate) const SUITES: &[&str] = &["bullseye", "bookworm", "trixie", "sid"];

/// The suite that source packages are taken from: the last one that has the sources of Kubernetes whole.
pub(crate) const SOURCE_SUITE: &str = "bookworm";

/// One archive, as the machine names it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Archive {
    /// Where it is.
    pub(crate) uris: String,
    /// The keyring that the machine trusts for it, if it names one.
    pub(crate) signed_by: Option<String>,
}

/// The two archives of a Debian machine.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Archives {
    /// The one with `trixie`, `trixie-backports`, `sid`.
    pub(crate) main: Option<Archive>,
    /// The one with `trixie-security`.
    pub(crate) security: Option<Archive>,
    /// The machine's own suites, with the archive of each.
    pub(crate) own: Vec<(String, Archive)>,
}

impl Archives {
    /// The machine's release, as its sources call it.
    pub(crate) fn own_release(&self) -> Option<&str> {
        let release = self.own.iter().find(|(suite, _)| !suite.contains(['-', '/']));
        release.map(|(suite, _)| suite.as_str())
    }
}

/// Reads all sources of the machine.
pub(crate) fn read(etc_apt: &Path) -> Result<Archives> {
    let mut files = vec![etc_apt.join("sources.list")];
    let parts = etc_apt.join("sources.list.d");
    if parts.is_dir() {
        for entry in
            fs::read_dir(&parts).with_context(|| format!("failed to read {}", parts.display()))?
        {
            files.push(entry?.path());
        }
    }
    files.sort();
    let mut archives = Archives::default();
    for file in files.iter().filter(|file| file.is_file()) {
        let read = || {
            fs::read_to_string(file).with_context(|| format!("failed to read {}", file.display()))
        };
        match file.extension().and_then(|extension| extension.to_str()) {
            Some("list") => take(&mut archives, parse_list(&read()?)),
            Some("sources") => take(&mut archives, parse_deb822(&read()?)),
            _ => {}
        }
    }
    Ok(archives)
}

/// A source: one archive and suites in it.
type Source = (Archive, Vec<String>);

/// Keeps the first archive of each kind.
fn take(archives: &mut Archives, sources: Vec<Source>) {
    for (archive, suites) in sources {
        for suite in &suites {
            let (codename, pocket) = suite.split_once(['-', '/']).unwrap_or((suite, ""));
            let debian = SUITES.contains(&codename)
                || ["stable", "oldstable", "testing", "unstable", "forky"].contains(&codename);
            if !debian {
                continue;
            }
            archives.own.push((suite.clone(), archive.clone()));
            match pocket {
                "security" => {
                    archives.security = archives.security.take().or(Some(archive.clone()));
                }
                "" | "updates" | "backports" => {
                    archives.main = archives.main.take().or(Some(archive.clone()));
                }
                _ => {}
            }
        }
    }
}

fn parse_list(text: &str) -> Vec<Source> {
    let mut sources = Vec::new();
    for line in text.lines() {
        let Some(rest) = line.trim().strip_prefix("deb ") else {
            continue;
        };
        let rest = rest.trim_start();
        let (options, rest) = match rest.strip_prefix('[').and_then(|rest| rest.split_once(']')) {
            Some((options, rest)) => (options, rest),
            None => ("", rest),
        };
        let mut words = rest.split_whitespace();
        let (Some(uri), Some(suite)) = (words.next(), words.next()) else {
            continue;
        };
        let signed_by =
            options.split_whitespace().find_map(|option| option.strip_prefix("signed-by="));
        let archive = Archive { uris: uri.into(), signed_by: signed_by.map(Into::into) };
        sources.push((archive, vec![suite.into()]));
    }
    sources
}

fn parse_deb822(text: &str) -> Vec<Source> {
    let without_comments: Vec<&str> =
        text.lines().filter(|line| !line.starts_with('#')).map(str::trim_end).collect();
    let mut sources = Vec::new();
    for stanza in without_comments.join("\n").split("\n\n") {
        let field = |name: &str| {
            stanza.lines().find_map(|line| {
                let (key, value) = line.split_once(':')?;
                key.eq_ignore_ascii_case(name).then(|| value.trim().to_owned())
            })
        };
        let types = field("Types").unwrap_or_default();
        if !types.split_whitespace().any(|kind| kind == "deb")
            || field("Enabled").as_deref() == Some("no")
        {
            continue;
        }
        let (Some(uris), Some(suites)) = (field("URIs"), field("Suites")) else {
            continue;
        };
        // A key written into the source itself begins with an empty line of its own: not a path, so not taken.
        let signed_by = field("Signed-By").filter(|value| value.starts_with('/'));
        let archive = Archive { uris, signed_by };
        sources.push((archive, suites.split_whitespace().map(Into::into).collect()));
    }
    sources
}

#[cfg(test)]
mod tests {
    use super::{Archive, Archives, parse_deb822, parse_list, take};

    fn archive(uris: &str, signed_by: Option<&str>) -> Archive {
        Archive { uris: uris.into(), signed_by: signed_by.map(Into::into) }
    }

    #[test]
    fn both_formats_name_the_archives() {
        let list = "# deb http://no/debian sid main\n\
            deb [arch=amd64 signed-by=/k.gpg] http://m/debian trixie main\n\
            deb-src http://src/debian trixie main\n\
            deb http://s/security trixie-security main\n";
        let mut archives = Archives::default();
        take(&mut archives, parse_list(list));
        assert_eq!(archives.main, Some(archive("http://m/debian", Some("/k.gpg"))));
        assert_eq!(archives.security, Some(archive("http://s/security", None)));
        assert_eq!(archives.own_release(), Some("trixie"));

        let deb822 = "Types: deb\n# URIs: http://no\nURIs: http://m/debian\nSuites: bookworm bookworm-updates\n\
            Signed-By: /k.gpg\n\nTypes: deb\nURIs: http://s/security\nSuites: bookworm-security\n\n\
            Enabled: no\nTypes: deb\nURIs: http://off\nSuites: sid\n";
        let mut archives = Archives::default();
        take(&mut archives, parse_deb822(deb822));
        assert_eq!(archives.main, Some(archive("http://m/debian", Some("/k.gpg"))));
        assert_eq!(archives.security, Some(archive("http://s/security", None)));
        let own: Vec<&str> = archives.own.iter().map(|(suite, _)| suite.as_str()).collect();
        assert_eq!(own, ["bookworm", "bookworm-updates", "bookworm-security"]);
    }

    #[test]
    fn another_distribution_is_no_debian() {
        let mut archives = Archives::default();
        take(
            &mut archives,
            parse_list("deb http://u/ubuntu noble main\ndeb http://x/x nodistro main\n"),
        );
        assert_eq!(archives, Archives::default());
    }
}
