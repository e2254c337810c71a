//! Where the configuration comes from: read at the start, and again whenever it may have changed.

use std::path::PathBuf;

use super::{Config, ConfigError, read};
use crate::source::probe::EbpfLog;

/// The file, and what the command line adds to it.
#[derive(Clone, Debug)]
pub struct Origin {
    /// The file; without one, everything has its default.
    pub file: Option<PathBuf>,
    /// The web configuration file that the option `--web.config.file` names.
    pub web_config_file: Option<PathBuf>,
    /// What the option `--ebpf-log` says.
    pub ebpf_log: EbpfLog,
}

/// A configuration, and what it was read from.
#[derive(Clone, Debug)]
pub struct Loaded {
    /// The configuration, with the targets that are found where it names none.
    pub config: Config,
    /// The text of the file; empty without one.
    pub text: String,
}

impl Origin {
    /// Reads and understands it.
    pub fn load(&self) -> Result<Loaded, ConfigError> {
        let (mut config, text) = match &self.file {
            None => (Config::default(), String::new()),
            Some(path) => {
                let text = read(path)?;
                (Config::parse_file(&text, path)?, text)
            }
        };
        config.find_local_targets()?;
        if let Some(path) = &self.web_config_file {
            config.web.config_file = Some(path.clone());
        }
        config.ebpf_log = self.ebpf_log;
        Ok(Loaded { config, text })
    }
}
