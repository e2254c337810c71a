//! What can be wrong with a web configuration file, each with its place and what to do. Never a secret of it.

use std::{io, path::PathBuf};

use super::hash::HashError;
use crate::config::ConfigError;

/// Why there is no web configuration.
#[derive(Debug, thiserror::Error)]
pub enum WebConfigError {
    /// The file cannot be read.
    #[error("cannot read the web configuration file {path}")]
    Read {
        /// The file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// Not YAML, or a key that does not exist.
    #[error(transparent)]
    Yaml(#[from] ConfigError),
    /// Something that the format has and Podmeter has not, or not here.
    #[error("{place}: `{key}` is not supported here: {instead}")]
    Unsupported {
        /// File, line and column.
        place: String,
        /// The key.
        key: String,
        /// What to do.
        instead: String,
    },
    /// A value that does not mean what the key wants.
    #[error("{place}: `{key}` is `{value}`, but {wanted}")]
    Value {
        /// File, line and column.
        place: String,
        /// The key.
        key: String,
        /// What it says.
        value: String,
        /// What it should say.
        wanted: String,
    },
    /// A key that is needed.
    #[error("{place}: the key `{key}` is missing")]
    Missing {
        /// File, line and column of what needs it.
        place: String,
        /// The key.
        key: &'static str,
    },
    /// A password that is none, without it.
    #[error("{place}: the password of `{user}` in `basic_auth_users`")]
    Password {
        /// File, line and column.
        place: String,
        /// The user.
        user: String,
        /// What is wrong with it.
        source: HashError,
    },
}
