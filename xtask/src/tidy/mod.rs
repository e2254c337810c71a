//! `cargo xtask tidy`: rules about the sources that no compiler checks.
//!
//! `rules` says what is forbidden where; `source` reads a file so that comments, strings and tests can be told from code.

mod imports;
mod rules;
mod source;

use std::{
    fs,
    path::{Path, PathBuf},
};

use anyhow::{Context as _, Result, bail};

use self::source::Source;
use crate::{cargo, console};

/// The folders that hold sources of ours.
const FOLDERS: &[&str] = &["exporter", "exporter-common", "exporter-ebpf", "tests", "xtask"];

/// One breach of a rule.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Finding {
    /// Counted from 1.
    pub(crate) line: usize,
    /// What is wrong and what to do instead.
    pub(crate) message: String,
}

/// `cargo xtask tidy`.
pub(crate) fn run() -> Result<()> {
    let root = cargo::root();
    let mut files = Vec::new();
    for folder in FOLDERS {
        collect(&root.join(folder), &mut files)?;
    }
    files.sort();
    let mut n_findings = 0;
    for file in &files {
        let text = fs::read_to_string(file)
            .with_context(|| format!("failed to read {}", file.display()))?;
        let path = file.strip_prefix(&root).unwrap_or(file).to_string_lossy().into_owned();
        for Finding { line, message } in rules::check(&Source::new(&path, &text)) {
            console::say(&format!("{path}:{line}: {message}"));
            n_findings += 1;
        }
    }
    if n_findings > 0 {
        bail!("{n_findings} breaches of the rules");
    }
    console::say(&format!("{} files are tidy", files.len()));
    Ok(())
}

fn collect(dir: &Path, files: &mut Vec<PathBuf>) -> Result<()> {
    for entry in fs::read_dir(dir).with_context(|| format!("failed to read {}", dir.display()))? {
        let path = entry?.path();
        if path.is_dir() {
            if !path.ends_with("target") {
                collect(&path, files)?;
            }
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            files.push(path);
        }
    }
    Ok(())
}
