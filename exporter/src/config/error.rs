//! Why there is no configuration: what is wrong, and where.

use std::{io, path::PathBuf};

use super::{
    MAX_FILE_BYTES, expand::ExpandError, remote_write::RemoteWriteError, scrape::ScrapeError,
};
use crate::labelling::{reserved::NameError, rules::RuleError};

/// Why there is no configuration.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// The file cannot be read.
    #[error("cannot read the configuration file {path}")]
    Read {
        /// The file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// The file is too large to be one.
    #[error("the configuration file {path} has more than {MAX_FILE_BYTES} bytes")]
    TooLarge {
        /// The file.
        path: PathBuf,
    },
    /// A key that does not exist.
    #[error("{place}: unknown key `{key}`{}", suggestion(*.nearest))]
    UnknownKey {
        /// File, line and column.
        place: String,
        /// The key.
        key: String,
        /// What was probably meant.
        nearest: Option<&'static str>,
    },
    /// Not YAML, or a value of the wrong kind.
    #[error("{place}: {message}")]
    Yaml {
        /// File, line and column.
        place: String,
        /// What is wrong.
        message: String,
    },
    /// A value that does not mean what the key wants.
    #[error("{file}: `{key}` is `{value}`, but {wanted}")]
    Value {
        /// The file.
        file: String,
        /// The key.
        key: String,
        /// What it says.
        value: String,
        /// What it should say.
        wanted: &'static str,
    },
    /// A target that cannot be scraped so.
    #[error("{place}")]
    Scrape {
        /// File, line and column.
        place: String,
        /// What is wrong with it.
        source: ScrapeError,
    },
    /// A receiver that nothing can be sent to so.
    #[error("{place}")]
    RemoteWrite {
        /// File, line and column.
        place: String,
        /// What is wrong with it.
        source: RemoteWriteError,
    },
    /// A label that cannot be given.
    #[error("{file}: `external_labels` is `{name}`, but {source}")]
    LabelName {
        /// The file.
        file: String,
        /// The label.
        name: String,
        /// Why.
        source: NameError,
    },
    /// A rule that is none.
    #[error("{place}: `{key}`")]
    Rule {
        /// File, line and column.
        place: String,
        /// The rule.
        key: String,
        /// What is wrong with it.
        source: RuleError,
    },
    /// A `${…}` that cannot be replaced.
    #[error("{file}: `{key}`")]
    Expand {
        /// The file.
        file: String,
        /// The key.
        key: String,
        /// Why.
        source: ExpandError,
    },
}

fn suggestion(nearest: Option<&'static str>) -> String {
    nearest.map_or_else(String::new, |key| format!(", did you mean `{key}`?"))
}
