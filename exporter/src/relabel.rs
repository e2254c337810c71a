//! `podmeter relabel`: a saved page through the labels and rules of one target, offline.

use std::{
    collections::HashSet,
    fmt::Write as _,
    fs::File,
    io::{self, Read, Write},
    path::{Path, PathBuf},
    sync::Arc,
};

use tracing::info;

use crate::{
    agent::find_node_name,
    attribution::kubernetes::saved::{SavedError, saved_pods},
    cli::RelabelArgs,
    config::{Config, scrape::ScrapeConfig},
    encode::{Format, encode},
    labelling::{
        Labeller,
        relabel::{Rules, RulesError, Step, rule::RuleConfig},
        relay::{
            Counts, DropReason, NamedPods, Relay, RelayError, Relayed,
            explain::{Explanation, SeriesError, series_text},
        },
    },
    page::{Page, relayed::SeriesHasher},
    source::upstream::exposition::{Dialect, Line, Reader},
    targets,
};

/// Largest file that is read.
const MAX_FILE_BYTES: u64 = 1 << 30;

/// Why nothing is printed.
#[derive(Debug, thiserror::Error)]
pub enum RelabelError {
    /// A target that the configuration does not have.
    #[error("there is no target with the job_name `{job}`; {}", known_jobs(known))]
    NoJob {
        /// What was asked for.
        job: String,
        /// What there is.
        known: Vec<String>,
    },
    /// A file cannot be read.
    #[error("cannot read {file}")]
    Read {
        /// The file.
        file: String,
        /// Why.
        source: io::Error,
    },
    /// A file that is too large.
    #[error("{file} has more than {MAX_FILE_BYTES} bytes")]
    TooLarge {
        /// The file.
        file: String,
    },
    /// A file of something else.
    #[error("cannot read pods from {}", path.display())]
    Pods {
        /// The file.
        path: PathBuf,
        /// Why.
        source: SavedError,
    },
    /// Rules that the configuration did not refuse.
    #[error("the rules cannot be compiled")]
    Rules(#[from] RulesError),
    /// The page would be refused as a whole.
    #[error("the target's page would not be served")]
    Relay(#[from] RelayError),
    /// What was to be explained is no series.
    #[error("`{series}` is no series")]
    Series {
        /// What was given.
        series: String,
        /// Why.
        source: SeriesError,
    },
    /// Nobody takes the output.
    #[error("cannot write to standard output")]
    Write(#[source] io::Error),
}

/// Prints the page, or the explanation.
pub fn run(config: &Config, args: &RelabelArgs, out: &mut impl Write) -> Result<(), RelabelError> {
    let target = config.scrape_configs.iter().find(|target| target.job_name == args.job);
    let target = target.ok_or_else(|| RelabelError::NoJob {
        job: args.job.clone(),
        known: config.scrape_configs.iter().map(|target| target.job_name.clone()).collect(),
    })?;
    let node = find_node_name(config);
    let external: Vec<_> = config.external_labels.clone().into_iter().collect();
    let page_rules = Arc::new(Rules::new(&config.relabel_configs)?);
    let hasher = SeriesHasher::default();
    let settings = targets::settings(target, &page_rules, &external, &node)?;
    let mut relay = Relay::new(settings, hasher.clone());
    let pods = pods(config, args.pods.as_deref(), &node)?;
    let bytes = if let Some(series) = &args.explain {
        let series = series_of_line(series);
        let explained = relay.explain(series, &*pods);
        let explanation =
            explained.map_err(|source| RelabelError::Series { series: series.into(), source })?;
        let rules = [
            ("metric_relabel_configs", target.rules.as_slice()),
            ("relabel_configs", config.relabel_configs.as_slice()),
        ];
        explain(&explanation, &rules).into_bytes()
    } else {
        let page = page(args.page.as_deref())?;
        let relayed = relay.relay(&page, dialect(&page), &*pods)?;
        report(target, &relayed);
        encode(&Page::merged(Vec::new(), vec![relayed.page], &hasher), Format::Text004)
    };
    out.write_all(&bytes).map_err(RelabelError::Write)
}

fn known_jobs(known: &[String]) -> String {
    match known {
        [] => "scrape_configs has none".into(),
        known => format!("scrape_configs has {}", known.join(", ")),
    }
}

fn pods(config: &Config, path: Option<&Path>, node: &str) -> Result<Arc<NamedPods>, RelabelError> {
    let Some(path) = path else {
        return Ok(Arc::default());
    };
    let on_error = |source| RelabelError::Pods { path: path.into(), source };
    let rules = config.kubernetes.labels.clone();
    let json = read(File::open(path), &path.display().to_string())?;
    let view = saved_pods(&json, rules.wanted(false), node).map_err(on_error)?;
    Ok(Labeller::new([], rules).relay_pods_of(&view, HashSet::new()))
}

fn page(path: Option<&Path>) -> Result<Vec<u8>, RelabelError> {
    match path {
        Some(path) => read(File::open(path), &path.display().to_string()),
        None => read(Ok(io::stdin().lock()), "standard input"),
    }
}

fn read(opened: io::Result<impl Read>, file: &str) -> Result<Vec<u8>, RelabelError> {
    let on_error = |source| RelabelError::Read { file: file.into(), source };
    let mut bytes = Vec::new();
    let mut limited = opened.map_err(on_error)?.take(MAX_FILE_BYTES + 1);
    limited.read_to_end(&mut bytes).map_err(on_error)?;
    if bytes.len() as u64 > MAX_FILE_BYTES {
        return Err(RelabelError::TooLarge { file: file.into() });
    }
    Ok(bytes)
}

/// A saved page has no `Content-Type`, but one in `OpenMetrics` says so at its end.
fn dialect(page: &[u8]) -> Dialect {
    if page.trim_ascii_end().ends_with(b"# EOF") { Dialect::OpenMetrics } else { Dialect::Text }
}

/// A series that was taken from a page with its value, without it.
fn series_of_line(text: &str) -> &str {
    match Reader::new(text.as_bytes(), Dialect::Text).next_line() {
        Some(Ok(Line::Sample { series, .. })) => str::from_utf8(series).unwrap_or(text),
        _ => text.trim(),
    }
}

/// Says on standard error what became of the samples.
fn report(target: &ScrapeConfig, relayed: &Relayed) {
    let Counts { n_samples, n_kept, .. } = relayed.counts;
    let of_reason = |reason: DropReason| match relayed.counts.dropped(reason) {
        0 => None,
        n => Some(format!(", {n} dropped ({})", reason.as_str())),
    };
    let dropped: String = DropReason::ALL.into_iter().filter_map(of_reason).collect();
    info!("{}: {n_samples} samples, {n_kept} served{dropped}", target.job_name);
    if let Some(fault) = relayed.first_fault {
        info!("the first line that is none: {fault}");
    }
}

/// The explanation as a text.
fn explain(explanation: &Explanation, rules: &[(&str, &[RuleConfig])]) -> String {
    let mut out = format!("received\n    {}\n", series_text(&explanation.received));
    let owner = explanation.owner_kind.as_str().replace('_', " ");
    push(&mut out, format_args!("about: {owner}"));
    push(&mut out, format_args!("labels of the pod and of the target"));
    out.push_str(&changes(&explanation.received, &explanation.attributed));
    let mut before = &explanation.attributed;
    for ((key, configs), steps) in rules.iter().zip(&explanation.rules) {
        for (idx, (config, step)) in configs.iter().zip(steps).enumerate() {
            push(&mut out, format_args!("{key}, rule {}: {config}", idx + 1));
            out.push_str(&what_it_did(before, step));
            before = &step.labels;
        }
    }
    match &explanation.outcome {
        Ok(served) => {
            if served != before {
                push(&mut out, format_args!("external_labels"));
                out.push_str(&changes(before, served));
            }
            push(&mut out, format_args!("served\n    {}", series_text(served)));
        }
        Err(reason) => push(&mut out, format_args!("not served: {reason}")),
    }
    out
}

fn push(out: &mut String, line: std::fmt::Arguments<'_>) {
    // A string takes all.
    writeln!(out, "{line}").ok();
}

fn what_it_did(before: &[(String, String)], step: &Step) -> String {
    if !step.is_kept {
        return "    drops the series\n".into();
    }
    changes(before, &step.labels)
}

/// What is new, another, or gone, by the names of the labels.
fn changes(before: &[(String, String)], after: &[(String, String)]) -> String {
    let mut out = String::new();
    let value = |labels: &[(String, String)], name: &str| {
        labels.iter().find(|(known, _)| known == name).map(|(_, value)| value.clone())
    };
    let mut names: Vec<_> = before.iter().chain(after).map(|(name, _)| name).collect();
    names.sort_unstable();
    names.dedup();
    for name in names {
        match (value(before, name), value(after, name)) {
            (None, Some(new)) => push(&mut out, format_args!("    + {name}={new:?}")),
            (Some(old), None) => push(&mut out, format_args!("    - {name}={old:?}")),
            (Some(old), Some(new)) if old != new => {
                push(&mut out, format_args!("    ~ {name}={old:?} -> {new:?}"));
            }
            _ => {}
        }
    }
    if out.is_empty() { "    changes nothing\n".into() } else { out }
}
