//! The keys `web`: which web configuration file there is. Pure.

use std::path::PathBuf;

use serde::Deserialize;

use crate::config::{ConfigError, Context};

/// What the configuration says of the endpoint's guard.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct WebSettings {
    /// The web configuration file, if there is one.
    pub config_file: Option<PathBuf>,
    /// Whether the Kubernetes API is asked who may read the page.
    pub kubernetes_auth: bool,
}

/// The keys as they stand in the file.
#[derive(Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(in crate::config) struct RawWebSettings {
    config_file: Option<String>,
    kubernetes_auth: bool,
}

impl RawWebSettings {
    pub(in crate::config) fn resolve(
        self,
        context: &Context<'_>,
    ) -> Result<WebSettings, ConfigError> {
        let path = self.config_file.map(|path| context.expand("web.config_file", &path));
        let path = path.transpose()?.filter(|path| !path.is_empty());
        Ok(WebSettings {
            config_file: path.map(PathBuf::from),
            kubernetes_auth: self.kubernetes_auth,
        })
    }
}
