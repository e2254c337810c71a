//! `scrape_configs` and `relabel_configs`: the pages of others, in Prometheus' words. Pure.
//!
//! `${NAME}` is replaced in `url`, in the names of files, in `server_name`, in `username` and in `params`; not in rules,
//! where `${1}` is a group.

mod url;

use std::{collections::BTreeMap, path::PathBuf, time::Duration};

use serde::Deserialize;
use serde_saphyr::Spanned;

pub(super) use self::url::{has_user, url};
use super::{ConfigError, Context, local::Expected, units};
use crate::{
    labelling::relabel::{Rules, RulesError, rule::RuleConfig},
    source::upstream::client::config::{
        ClientCertificate, ClientConfig, Compression, Credentials, Secret, TlsConfig, Verification,
    },
};

/// How long a target may take if the file says nothing, as in Prometheus.
const DEFAULT_TIMEOUT: Duration = Duration::from_secs(10);
/// Largest page if the file says nothing; the largest that was seen in the field has 11 MB.
const DEFAULT_BODY_SIZE_LIMIT: usize = 64 << 20;
/// Largest page whatever the file says.
const MAX_BODY_SIZE_LIMIT: usize = 1 << 30;
/// Most targets of one node.
const MAX_TARGETS: usize = 100;

/// One target.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ScrapeConfig {
    /// The label `job` of its series; no two targets have the same.
    pub job_name: String,
    /// How it is asked.
    pub client: ClientConfig,
    /// How long it may take; a page waits for no target longer than a few seconds less than Prometheus does.
    pub timeout: Duration,
    /// Whose label holds where both have one of the same name.
    pub on_conflict: OnConflict,
    /// Whether the times that the target gives are served.
    pub timestamps: Timestamps,
    /// What is too much; each that is met fails the scrape, as in Prometheus.
    pub limits: ScrapeLimits,
    /// What is done to each series.
    pub rules: Vec<RuleConfig>,
    /// Whether it is sure to be there.
    pub expected: Expected,
}

/// `honor_labels`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OnConflict {
    /// The target's label becomes `exported_…`.
    Rename,
    /// The target's label stays.
    HonorTarget,
}

/// `honor_timestamps`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Timestamps {
    /// They are served as they came.
    Honored,
    /// They are left out: a sample is as old as the scrape.
    Dropped,
}

/// What is too much of one target; none is no limit.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ScrapeLimits {
    /// Samples after the rules.
    pub samples: Option<usize>,
    /// Labels of one series.
    pub labels: Option<usize>,
    /// Bytes of a label's name.
    pub label_name_bytes: Option<usize>,
    /// Bytes of a label's value.
    pub label_value_bytes: Option<usize>,
}

/// What is wrong with a target.
#[derive(Debug, thiserror::Error)]
pub enum ScrapeError {
    /// A key that a target cannot be without.
    #[error("the key `{0}` is missing")]
    Missing(&'static str),
    /// Two targets of one name.
    #[error(
        "the job_name `{0}` stands here for the second time; series of two targets would be the same"
    )]
    SameJob(String),
    /// Too many.
    #[error("there are more than {MAX_TARGETS} targets")]
    TooMany,
    /// No URL.
    #[error(
        "`url` is `{0}`, but it takes http:// or https://, a host and a path, such as https://127.0.0.1:10250/metrics"
    )]
    Url(String),
    /// A URL that would show its credentials wherever it is shown.
    #[error("`url` has a user or a password in it, and URLs are shown: use `basic_auth`")]
    UserInUrl,
    /// A value that is none.
    #[error("`{key}` is `{value}`, but {wanted}")]
    Value {
        /// The key.
        key: &'static str,
        /// What it says.
        value: String,
        /// What it should say.
        wanted: &'static str,
    },
    /// Two keys of which only one is used.
    #[error("`{0}` and `{1}` stand together, but only one of them can hold")]
    Both(&'static str, &'static str),
    /// A key without the other.
    #[error("`{0}` stands here without `{1}`")]
    Without(&'static str, &'static str),
    /// A key about targets that there are not.
    #[error(
        "`kubelet.tls_config` is for the targets that nobody names, and `scrape_configs` names them: set `tls_config` there"
    )]
    KubeletNamed,
    /// A rule.
    #[error("`{key}`")]
    Rules {
        /// Which list.
        key: &'static str,
        /// Which rule, and why.
        source: RulesError,
    },
}

/// One item of the list as it stands in the file.
#[derive(Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(super) struct RawScrape {
    job_name: Option<String>,
    url: Option<String>,
    params: BTreeMap<String, Vec<String>>,
    authorization: Option<RawAuthorization>,
    basic_auth: Option<RawBasicAuth>,
    tls_config: RawTls,
    enable_compression: bool,
    scrape_timeout: Option<String>,
    honor_labels: bool,
    honor_timestamps: Option<bool>,
    body_size_limit: Option<String>,
    sample_limit: usize,
    label_limit: usize,
    label_name_length_limit: usize,
    label_value_length_limit: usize,
    metric_relabel_configs: Vec<RuleConfig>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(super) struct RawAuthorization {
    r#type: Option<String>,
    credentials: Option<String>,
    credentials_file: Option<String>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(super) struct RawBasicAuth {
    username: Option<String>,
    password: Option<String>,
    password_file: Option<String>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(super) struct RawTls {
    ca_file: Option<String>,
    cert_file: Option<String>,
    key_file: Option<String>,
    server_name: Option<String>,
    insecure_skip_verify: bool,
}

/// Checks the rules of all targets.
pub(super) fn page_rules(
    rules: Vec<RuleConfig>,
    context: &Context<'_>,
) -> Result<Vec<RuleConfig>, ConfigError> {
    check_rules("relabel_configs", rules)
        .map_err(|source| ConfigError::Scrape { place: context.file.into(), source })
}

/// Checks all targets; an error names the one it is in.
pub(super) fn resolve(
    raw: Vec<Spanned<RawScrape>>,
    context: &Context<'_>,
) -> Result<Vec<ScrapeConfig>, ConfigError> {
    let mut targets: Vec<ScrapeConfig> = Vec::new();
    for spanned in raw {
        let place = context.place(&spanned.referenced);
        let error = |source| ConfigError::Scrape { place: place.clone(), source };
        let target = spanned.value.resolve(context, &place)?;
        if targets.iter().any(|known| known.job_name == target.job_name) {
            return Err(error(ScrapeError::SameJob(target.job_name)));
        }
        if targets.len() == MAX_TARGETS {
            return Err(error(ScrapeError::TooMany));
        }
        targets.push(target);
    }
    Ok(targets)
}

impl RawScrape {
    fn resolve(self, context: &Context<'_>, place: &str) -> Result<ScrapeConfig, ConfigError> {
        let error = |source| ConfigError::Scrape { place: place.to_owned(), source };
        let missing = |key| error(ScrapeError::Missing(key));
        let job_name = self.job_name.filter(|name| !name.is_empty());
        let job_name = job_name.ok_or_else(|| missing("job_name"))?;
        let text = context.expand("url", &self.url.ok_or_else(|| missing("url"))?)?;
        if has_user(&text) {
            return Err(error(ScrapeError::UserInUrl));
        }
        let url =
            url(&text, &self.params, context)?.ok_or_else(|| error(ScrapeError::Url(text)))?;
        let credentials = credentials(self.authorization, self.basic_auth, context, place)?;
        let tls = self.tls_config.resolve(context, place)?;
        let limit = |limit| if limit == 0 { None } else { Some(limit) };
        Ok(ScrapeConfig {
            job_name,
            client: ClientConfig {
                url,
                credentials,
                tls,
                compression: if self.enable_compression {
                    Compression::Accepted
                } else {
                    Compression::Refused
                },
                max_body_bytes: max_body_bytes(self.body_size_limit).map_err(error)?,
            },
            timeout: timeout(self.scrape_timeout).map_err(error)?,
            on_conflict: if self.honor_labels {
                OnConflict::HonorTarget
            } else {
                OnConflict::Rename
            },
            timestamps: if self.honor_timestamps.unwrap_or(true) {
                Timestamps::Honored
            } else {
                Timestamps::Dropped
            },
            limits: ScrapeLimits {
                samples: limit(self.sample_limit),
                labels: limit(self.label_limit),
                label_name_bytes: limit(self.label_name_length_limit),
                label_value_bytes: limit(self.label_value_length_limit),
            },
            rules: check_rules("metric_relabel_configs", self.metric_relabel_configs)
                .map_err(error)?,
            expected: Expected::Surely,
        })
    }
}

impl RawTls {
    pub(super) fn resolve(
        self,
        context: &Context<'_>,
        place: &str,
    ) -> Result<TlsConfig, ConfigError> {
        let error = |source| ConfigError::Scrape { place: place.to_owned(), source };
        let client = match (self.cert_file, self.key_file) {
            (Some(cert), Some(key)) => Some(ClientCertificate {
                cert_file: context.expand("tls_config.cert_file", &cert)?.into(),
                key_file: context.expand("tls_config.key_file", &key)?.into(),
            }),
            (None, None) => None,
            (Some(_), None) => return Err(error(ScrapeError::Without("cert_file", "key_file"))),
            (None, Some(_)) => return Err(error(ScrapeError::Without("key_file", "cert_file"))),
        };
        let expand =
            |key, value: Option<String>| value.map(|value| context.expand(key, &value)).transpose();
        let server_name = expand("tls_config.server_name", self.server_name)?;
        if let Some(name) = &server_name
            && rustls::pki_types::ServerName::try_from(name.as_str()).is_err()
        {
            return Err(error(ScrapeError::Value {
                key: "tls_config.server_name",
                value: name.clone(),
                wanted: "it takes a DNS name or an IP address",
            }));
        }
        Ok(TlsConfig {
            ca_file: expand("tls_config.ca_file", self.ca_file)?.map(PathBuf::from),
            client,
            server_name,
            verification: if self.insecure_skip_verify {
                Verification::Skipped
            } else {
                Verification::Required
            },
        })
    }
}

/// Checks `authorization` and `basic_auth`, of which there is one at most.
pub(super) fn credentials(
    authorization: Option<RawAuthorization>,
    basic_auth: Option<RawBasicAuth>,
    context: &Context<'_>,
    place: &str,
) -> Result<Option<Credentials>, ConfigError> {
    let error = |source| ConfigError::Scrape { place: place.to_owned(), source };
    let secret = |inline: Option<String>, file: Option<String>, keys: [&'static str; 2]| {
        let [inline_key, file_key] = keys;
        match (inline, file) {
            (Some(_), Some(_)) => Err(error(ScrapeError::Both(inline_key, file_key))),
            (Some(inline), None) => Ok(Secret::Inline(context.expand(inline_key, &inline)?)),
            (None, Some(file)) => Ok(Secret::File(context.expand(file_key, &file)?.into())),
            (None, None) => Err(error(ScrapeError::Missing(file_key))),
        }
    };
    match (authorization, basic_auth) {
        (Some(_), Some(_)) => Err(error(ScrapeError::Both("authorization", "basic_auth"))),
        (None, None) => Ok(None),
        (Some(RawAuthorization { r#type, credentials, credentials_file }), None) => {
            let scheme = r#type.unwrap_or_else(|| "Bearer".into());
            if scheme.eq_ignore_ascii_case("basic") {
                return Err(error(ScrapeError::Value {
                    key: "authorization.type",
                    value: scheme,
                    wanted: "a user and a password go into `basic_auth`",
                }));
            }
            let keys = ["authorization.credentials", "authorization.credentials_file"];
            Ok(Some(Credentials::Token {
                scheme,
                token: secret(credentials, credentials_file, keys)?,
            }))
        }
        (None, Some(RawBasicAuth { username, password, password_file })) => {
            let username = context.expand("basic_auth.username", &username.unwrap_or_default())?;
            let keys = ["basic_auth.password", "basic_auth.password_file"];
            Ok(Some(Credentials::Basic {
                username,
                password: secret(password, password_file, keys)?,
            }))
        }
    }
}

fn timeout(text: Option<String>) -> Result<Duration, ScrapeError> {
    let Some(text) = text else {
        return Ok(DEFAULT_TIMEOUT);
    };
    units::span(&text).filter(|span| !span.is_zero()).ok_or(ScrapeError::Value {
        key: "scrape_timeout",
        value: text,
        wanted: "it takes a span such as 10s or 1m30s",
    })
}

fn max_body_bytes(text: Option<String>) -> Result<usize, ScrapeError> {
    let Some(text) = text else {
        return Ok(DEFAULT_BODY_SIZE_LIMIT);
    };
    let bytes = units::bytes(&text).and_then(|bytes| usize::try_from(bytes).ok());
    match bytes {
        Some(0) => Ok(MAX_BODY_SIZE_LIMIT),
        Some(bytes) => Ok(bytes.min(MAX_BODY_SIZE_LIMIT)),
        None => Err(ScrapeError::Value {
            key: "body_size_limit",
            value: text,
            wanted: "it takes a number of bytes with its unit, such as 64MB; 0 is the most, 1GB",
        }),
    }
}

/// The rules, if all of them can be compiled.
pub(super) fn check_rules(
    key: &'static str,
    rules: Vec<RuleConfig>,
) -> Result<Vec<RuleConfig>, ScrapeError> {
    match Rules::new(&rules) {
        Ok(_compiled) => Ok(rules),
        Err(source) => Err(ScrapeError::Rules { key, source }),
    }
}

#[cfg(test)]
mod tests;
