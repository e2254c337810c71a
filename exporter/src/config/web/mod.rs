//! The web configuration file: TLS, client certificates, headers and passwords of Podmeter's own endpoint, in the format
//! of Prometheus' exporter-toolkit. What of it Podmeter does not have is refused, never passed over.

mod error;
mod hash;
mod names;
mod settings;
#[cfg(test)]
mod tests;

use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
};

use rustls::{CipherSuite, NamedGroup, SupportedProtocolVersion};
use serde::Deserialize;
use serde_saphyr::Spanned;

use self::names::{CIPHER_SUITES, CURVES, Named, VERSIONS};
pub(super) use self::settings::RawWebSettings;
pub use self::{error::WebConfigError, hash::PasswordHash, settings::WebSettings};
use super::{MAX_FILE_BYTES, is_empty, parse_yaml, place_of};
use crate::files;

/// Headers that can be added, and the values that each may have; none is any. They are exporter-toolkit's.
const HEADERS: &[(&str, &[&str])] = &[
    ("Content-Security-Policy", &[]),
    ("Strict-Transport-Security", &[]),
    ("X-Content-Type-Options", &["nosniff"]),
    ("X-Frame-Options", &["deny", "sameorigin"]),
    ("X-XSS-Protection", &[]),
];

/// What the file says.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct WebConfig {
    /// TLS; without it the endpoint is plain.
    pub tls: Option<ServerTls>,
    /// Headers of every answer, by name.
    pub headers: Vec<(String, String)>,
    /// Users and the hashes of their passwords; nobody else is let in, unless there is none.
    pub users: BTreeMap<String, PasswordHash>,
}

/// TLS of the endpoint.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ServerTls {
    /// The certificate, with those between it and its authority, in PEM.
    pub cert_file: PathBuf,
    /// Its key, in PEM.
    pub key_file: PathBuf,
    /// What is asked of clients.
    pub client_auth: ClientAuth,
    /// Who signs the certificates of clients.
    pub client_ca_file: Option<PathBuf>,
    /// Names of which a client's certificate must have one; empty is any.
    pub client_allowed_sans: Vec<String>,
    /// Versions, from the lowest.
    pub versions: Vec<&'static SupportedProtocolVersion>,
    /// Cipher suites in order of preference; empty is all. Those of TLS 1.3 are all there unless one is named.
    pub cipher_suites: Vec<CipherSuite>,
    /// Curves in order of preference; empty is all.
    pub curves: Vec<NamedGroup>,
    /// Whose preference decides.
    pub preference: Preference,
}

/// `client_auth_type`, by Go's names.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum ClientAuth {
    /// No certificate is asked for.
    #[default]
    NoClientCert,
    /// One is asked for, and nothing is checked.
    RequestClientCert,
    /// Any certificate will do.
    RequireAnyClientCert,
    /// Who gives one must give one of the authority.
    VerifyClientCertIfGiven,
    /// One of the authority is needed.
    RequireAndVerifyClientCert,
}

/// `prefer_server_cipher_suites`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Preference {
    /// The order of the file, or of the library.
    Server,
    /// The client's order.
    Client,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
struct RawWeb {
    tls_server_config: Option<Spanned<RawTls>>,
    http_server_config: RawHttp,
    basic_auth_users: Option<BTreeMap<String, Spanned<String>>>,
    rate_limit: Option<Spanned<serde_json::Value>>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
struct RawTls {
    cert: Option<Spanned<String>>,
    key: Option<Spanned<String>>,
    client_ca: Option<Spanned<String>>,
    cert_file: Option<String>,
    key_file: Option<String>,
    client_auth_type: Option<Spanned<String>>,
    client_ca_file: Option<Spanned<String>>,
    client_allowed_sans: Option<Spanned<Vec<String>>>,
    min_version: Option<Spanned<String>>,
    max_version: Option<Spanned<String>>,
    cipher_suites: Vec<Spanned<String>>,
    prefer_server_cipher_suites: Option<bool>,
    curve_preferences: Vec<Spanned<String>>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
struct RawHttp {
    http2: Option<Spanned<bool>>,
    headers: BTreeMap<String, Spanned<String>>,
}

/// Where the file is: for places in messages, and for names of files relative to its folder.
struct Place<'a> {
    file: &'a str,
    folder: &'a Path,
}

impl WebConfig {
    /// Reads the file; this blocks.
    pub fn load(path: &Path) -> Result<Self, WebConfigError> {
        let read_error = |source| WebConfigError::Read { path: path.into(), source };
        let text = files::read_text(path, MAX_FILE_BYTES).map_err(read_error)?;
        let folder = path.parent().unwrap_or(Path::new(""));
        Self::parse(&text, &path.display().to_string(), folder)
    }

    /// Parses the text of `file`, which lies in `folder`.
    pub fn parse(text: &str, file: &str, folder: &Path) -> Result<Self, WebConfigError> {
        let raw: RawWeb = if is_empty(text) { RawWeb::default() } else { parse_yaml(text, file)? };
        let place = Place { file, folder };
        if let Some(spanned) = &raw.rate_limit {
            let instead = "remove it: the endpoint has limits of its own";
            return Err(place.unsupported(spanned, "rate_limit", instead));
        }
        let tls = raw.tls_server_config.map(|spanned| {
            let at = place.of(&spanned);
            spanned.value.resolve(&place, &at)
        });
        Ok(Self {
            tls: tls.transpose()?,
            headers: raw.http_server_config.resolve(&place)?,
            users: place.users(raw.basic_auth_users.unwrap_or_default())?,
        })
    }

    /// The files that it names, in one order.
    pub fn files(&self) -> impl Iterator<Item = &PathBuf> {
        self.tls
            .iter()
            .flat_map(|tls| [&tls.cert_file, &tls.key_file].into_iter().chain(&tls.client_ca_file))
    }
}

impl ClientAuth {
    const NAMES: &[Named<Self>] = &[
        ("NoClientCert", Self::NoClientCert),
        ("RequestClientCert", Self::RequestClientCert),
        ("RequireClientCert", Self::RequireAnyClientCert),
        ("RequireAnyClientCert", Self::RequireAnyClientCert),
        ("VerifyClientCertIfGiven", Self::VerifyClientCertIfGiven),
        ("RequireAndVerifyClientCert", Self::RequireAndVerifyClientCert),
    ];

    /// Whether a client without a certificate is turned away.
    #[must_use]
    pub fn is_required(self) -> bool {
        matches!(self, Self::RequireAnyClientCert | Self::RequireAndVerifyClientCert)
    }

    /// Whether a certificate must be one of the authority.
    #[must_use]
    pub fn is_verified(self) -> bool {
        matches!(self, Self::VerifyClientCertIfGiven | Self::RequireAndVerifyClientCert)
    }
}

impl RawTls {
    fn resolve(self, place: &Place<'_>, at: &str) -> Result<ServerTls, WebConfigError> {
        for (inline, key, instead) in [
            (&self.cert, "cert", "put the certificate into a file, and name it by `cert_file`"),
            (&self.key, "key", "put the key into a file, and name it by `key_file`"),
            (&self.client_ca, "client_ca", "put it into a file, and name it by `client_ca_file`"),
        ] {
            if let Some(spanned) = inline {
                return Err(place.unsupported(spanned, key, instead));
            }
        }
        let needed = |key, value: Option<String>| {
            let missing = || WebConfigError::Missing { place: at.into(), key };
            value.filter(|path| !path.is_empty()).map(|path| place.path(&path)).ok_or_else(missing)
        };
        let versions = place.versions(self.min_version.as_ref(), self.max_version.as_ref())?;
        let (client_auth, client_ca_file, client_allowed_sans) = place.clients(
            self.client_auth_type.as_ref(),
            self.client_ca_file.as_ref(),
            self.client_allowed_sans,
        )?;
        Ok(ServerTls {
            cert_file: needed("cert_file", self.cert_file)?,
            key_file: needed("key_file", self.key_file)?,
            client_auth,
            client_ca_file,
            client_allowed_sans,
            versions,
            cipher_suites: place.all_named("cipher_suites", CIPHER_SUITES, &self.cipher_suites)?,
            curves: place.all_named("curve_preferences", CURVES, &self.curve_preferences)?,
            preference: match self.prefer_server_cipher_suites {
                Some(false) => Preference::Client,
                Some(true) | None => Preference::Server,
            },
        })
    }
}

impl RawHttp {
    fn resolve(self, place: &Place<'_>) -> Result<Vec<(String, String)>, WebConfigError> {
        if let Some(spanned) = self.http2.as_ref().filter(|http2| http2.value) {
            let instead = "set it to false, or remove it: the endpoint speaks HTTP/1.1";
            return Err(place.unsupported(spanned, "http2: true", instead));
        }
        let mut headers = Vec::new();
        for (name, value) in self.headers {
            let known = HEADERS.iter().find(|(known, _)| *known == name);
            let Some((_, allowed)) = known else {
                let names: Vec<_> = HEADERS.iter().map(|(name, _)| *name).collect();
                let instead = format!("the headers that can be set are {}", names.join(", "));
                return Err(place.unsupported(&value, &name, &instead));
            };
            let is_text = value.value.bytes().all(|byte| (b' '..=b'~').contains(&byte));
            if !is_text || !(allowed.is_empty() || allowed.contains(&value.value.as_str())) {
                let wanted = if allowed.is_empty() {
                    "it takes printable ASCII".to_owned()
                } else {
                    format!("it takes {}", allowed.join(" or "))
                };
                return Err(place.value(&value, &name, wanted));
            }
            if !value.value.is_empty() {
                headers.push((name, value.value));
            }
        }
        Ok(headers)
    }
}

impl Place<'_> {
    fn of<T>(&self, spanned: &Spanned<T>) -> String {
        place_of(self.file, &spanned.referenced)
    }

    /// A file that the configuration names, from its own folder on, as exporter-toolkit has it.
    fn path(&self, path: &str) -> PathBuf {
        self.folder.join(path)
    }

    fn unsupported<T>(&self, spanned: &Spanned<T>, key: &str, instead: &str) -> WebConfigError {
        WebConfigError::Unsupported {
            place: self.of(spanned),
            key: key.into(),
            instead: instead.into(),
        }
    }

    fn value(&self, spanned: &Spanned<String>, key: &str, wanted: String) -> WebConfigError {
        WebConfigError::Value {
            place: self.of(spanned),
            key: key.into(),
            value: spanned.value.clone(),
            wanted,
        }
    }

    fn users(
        &self,
        raw: BTreeMap<String, Spanned<String>>,
    ) -> Result<BTreeMap<String, PasswordHash>, WebConfigError> {
        let check = |(user, hash): (String, Spanned<String>)| match PasswordHash::parse(&hash.value)
        {
            Ok(parsed) => Ok((user, parsed)),
            Err(source) => Err(WebConfigError::Password { place: self.of(&hash), user, source }),
        };
        raw.into_iter().map(check).collect()
    }

    fn named<T: Copy>(
        &self,
        key: &str,
        table: &[Named<T>],
        spanned: &Spanned<String>,
    ) -> Result<T, WebConfigError> {
        names::find(table, &spanned.value).ok_or_else(|| {
            self.value(spanned, key, format!("what there is are {}", names::list(table)))
        })
    }

    fn all_named<T: Copy>(
        &self,
        key: &str,
        table: &[Named<T>],
        all: &[Spanned<String>],
    ) -> Result<Vec<T>, WebConfigError> {
        all.iter().map(|spanned| self.named(key, table, spanned)).collect()
    }

    fn versions(
        &self,
        min: Option<&Spanned<String>>,
        max: Option<&Spanned<String>>,
    ) -> Result<Vec<&'static SupportedProtocolVersion>, WebConfigError> {
        let check = |key, spanned: Option<&Spanned<String>>| {
            spanned.map(|spanned| self.named(key, VERSIONS, spanned)).transpose()
        };
        let (lowest, highest) = (check("min_version", min)?, check("max_version", max)?);
        let versions = VERSIONS.iter().map(|(_, version)| *version);
        let versions = versions
            .skip_while(|version| lowest.is_some_and(|lowest| lowest != *version))
            .collect::<Vec<_>>();
        let n_kept = match highest {
            Some(highest) => versions.iter().position(|version| *version == highest),
            None => versions.len().checked_sub(1),
        };
        match (n_kept, max) {
            (Some(last), _) => Ok(versions.into_iter().take(last + 1).collect()),
            (None, Some(max)) => {
                Err(self.value(max, "max_version", "`min_version` is higher".into()))
            }
            (None, None) => Ok(versions),
        }
    }

    fn clients(
        &self,
        auth: Option<&Spanned<String>>,
        ca_file: Option<&Spanned<String>>,
        sans: Option<Spanned<Vec<String>>>,
    ) -> Result<(ClientAuth, Option<PathBuf>, Vec<String>), WebConfigError> {
        let client_auth = match auth {
            Some(auth) if !auth.value.is_empty() => {
                self.named("client_auth_type", ClientAuth::NAMES, auth)?
            }
            Some(_) | None => ClientAuth::default(),
        };
        let ca_file = ca_file.filter(|path| !path.value.is_empty());
        match (ca_file, auth) {
            (Some(ca_file), _) if !client_auth.is_verified() => {
                let instead = "set client_auth_type to RequireAndVerifyClientCert, or no certificate is checked by it";
                return Err(self.unsupported(ca_file, "client_ca_file", instead));
            }
            (None, Some(auth)) if client_auth.is_verified() => {
                let (place, key) = (self.of(auth), "client_ca_file");
                return Err(WebConfigError::Missing { place, key });
            }
            _ => {}
        }
        let allowed = match sans {
            Some(sans)
                if client_auth != ClientAuth::RequireAndVerifyClientCert
                    && !sans.value.is_empty() =>
            {
                let instead = "set client_auth_type to RequireAndVerifyClientCert: a name that nobody has vouched for \
                               says nothing";
                return Err(self.unsupported(&sans, "client_allowed_sans", instead));
            }
            Some(sans) => sans.value,
            None => Vec::new(),
        };
        Ok((client_auth, ca_file.map(|path| self.path(&path.value)), allowed))
    }
}
