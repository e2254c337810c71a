//! Who is let in: what a request must bring before anything is done for it.

mod gate;
mod passwords;
mod remembered;
mod tokens;

use std::fmt;

use hyper::{
    HeaderMap, Response, StatusCode,
    header::{self, HeaderValue},
};

pub(super) use self::passwords::{Login, Users};
pub(super) use self::remembered::NoRandomness;
use self::{
    passwords::{Passwords, Verdict},
    tokens::Tokens,
};
use super::{
    app::{App, Handler},
    body::AnswerBody,
    router::{CLOSE, text, with},
    web::Rules,
    wire::Peer,
};

/// What is remembered of those who were let in.
#[derive(Debug)]
pub(super) struct Guard {
    passwords: Passwords,
    tokens: Tokens,
}

/// Why a request gets no answer.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum Refusal {
    #[error(
        "this endpoint asks for a client certificate: let the client have one (tls_config.cert_file and key_file in \
         Prometheus), signed by an authority of client_ca_file"
    )]
    NoCertificate,
    #[error("this endpoint asks for {0}")]
    NoCredentials(Challenge),
    #[error("the user or the password is wrong")]
    WrongPassword(Challenge),
    #[error("the Kubernetes API does not know this token, or it has expired")]
    UnknownToken,
    #[error(
        "{user} may not read the page: bind it to a ClusterRole with nonResourceURLs [/metrics] and verbs [get]"
    )]
    Forbidden { user: String },
    #[error("the Kubernetes API cannot be asked about this token now; Podmeter's log says why")]
    Unavailable,
    #[error("too many others are being checked: ask again in a moment")]
    Busy,
}

/// What can be shown instead.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Challenge {
    Basic,
    Bearer,
    Both,
}

/// Whether a path is for those only who are let in. The kubelet's probes bring nothing.
pub(super) fn is_guarded(handler: Handler) -> bool {
    !matches!(handler, Handler::Healthz | Handler::Readyz)
}

impl Guard {
    pub(super) fn new() -> Result<Self, NoRandomness> {
        Ok(Self { passwords: Passwords::new()?, tokens: Tokens::new()? })
    }

    /// Lets a request in, or says why not.
    pub(super) async fn admit<A: App>(
        &self,
        app: &A,
        rules: &Rules,
        peer: &Peer,
        handler: Handler,
        headers: &HeaderMap,
    ) -> Result<(), Refusal> {
        if !is_guarded(handler) {
            return Ok(());
        }
        // A connection that is older than the policy was not checked by it.
        if rules.client_auth.is_required() && peer.certificate != Some(rules.client_auth) {
            return Err(Refusal::NoCertificate);
        }
        let challenge = match (!rules.users.is_empty(), app.reviews_tokens()) {
            (false, false) => return Ok(()),
            (true, false) => Challenge::Basic,
            (false, true) => Challenge::Bearer,
            (true, true) => Challenge::Both,
        };
        let Some(Authorization { scheme, text }) = authorization(headers) else {
            return Err(Refusal::NoCredentials(challenge));
        };
        match (scheme.as_str(), challenge) {
            ("basic", Challenge::Basic | Challenge::Both) => {
                let wrong = Refusal::WrongPassword(challenge);
                let login = Login::parse(text).ok_or(wrong.clone())?;
                match self.passwords.check(&rules.users, login, peer.address).await {
                    Verdict::Good => Ok(()),
                    Verdict::Bad => Err(wrong),
                    Verdict::Busy => Err(Refusal::Busy),
                }
            }
            ("bearer", Challenge::Bearer | Challenge::Both) => {
                self.tokens.check(text, peer.address, app.review(text)).await
            }
            _ => Err(Refusal::NoCredentials(challenge)),
        }
    }
}

/// The header `Authorization`: a scheme in lower case, and what follows it.
pub(super) struct Authorization<'a> {
    pub(super) scheme: String,
    pub(super) text: &'a str,
}

impl Challenge {
    fn header(self) -> HeaderValue {
        HeaderValue::from_static(match self {
            Self::Basic => "Basic realm=\"podmeter\"",
            Self::Bearer => "Bearer realm=\"podmeter\"",
            Self::Both => "Basic realm=\"podmeter\", Bearer realm=\"podmeter\"",
        })
    }
}

impl fmt::Display for Challenge {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(match self {
            Self::Basic => "a user and a password (basic_auth in Prometheus)",
            Self::Bearer => "a token of a ServiceAccount (authorization in Prometheus)",
            Self::Both => {
                "a user and a password, or a token of a ServiceAccount (basic_auth or authorization in Prometheus)"
            }
        })
    }
}

/// The one header `Authorization`; two of them are none.
pub(super) fn authorization(headers: &HeaderMap) -> Option<Authorization<'_>> {
    let mut values = headers.get_all(header::AUTHORIZATION).iter();
    let (value, None) = (values.next()?, values.next()) else {
        return None;
    };
    let (scheme, rest) = value.to_str().ok()?.split_once(' ')?;
    Some(Authorization { scheme: scheme.to_ascii_lowercase(), text: rest.trim() })
}

impl Refusal {
    /// What the client is told; its connection is closed.
    pub(super) fn answer(&self) -> Response<AnswerBody> {
        let status = match self {
            Self::NoCertificate | Self::Forbidden { .. } => StatusCode::FORBIDDEN,
            Self::NoCredentials(_) | Self::WrongPassword(_) | Self::UnknownToken => {
                StatusCode::UNAUTHORIZED
            }
            Self::Busy | Self::Unavailable => StatusCode::SERVICE_UNAVAILABLE,
        };
        let answer = with(text(status, format!("{self}\n")), header::CONNECTION, CLOSE);
        match self {
            Self::NoCredentials(challenge) | Self::WrongPassword(challenge) => {
                with(answer, header::WWW_AUTHENTICATE, challenge.header())
            }
            Self::UnknownToken => {
                let challenge =
                    HeaderValue::from_static("Bearer realm=\"podmeter\", error=\"invalid_token\"");
                with(answer, header::WWW_AUTHENTICATE, challenge)
            }
            Self::Busy => with(answer, header::RETRY_AFTER, HeaderValue::from_static("1")),
            Self::NoCertificate | Self::Forbidden { .. } | Self::Unavailable => answer,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::{Challenge, Refusal};

    const TROUBLESHOOTING: &str = include_str!("../../../../docs/troubleshooting.md");

    #[test]
    fn each_refusal_has_a_row_in_the_documentation_with_its_status_and_text() {
        let (_, section) =
            TROUBLESHOOTING.split_once("## Refused by the endpoint").expect("it is there");
        let rows: Vec<(&str, &str)> = section
            .lines()
            .filter_map(|line| {
                let mut cells = line.strip_prefix("| ")?.split(" | ");
                Some((cells.next()?, cells.next()?.strip_prefix('`')?.strip_suffix('`')?))
            })
            .collect();
        let refusals = [
            Refusal::NoCertificate,
            Refusal::NoCredentials(Challenge::Basic),
            Refusal::NoCredentials(Challenge::Bearer),
            Refusal::NoCredentials(Challenge::Both),
            Refusal::WrongPassword(Challenge::Basic),
            Refusal::UnknownToken,
            Refusal::Forbidden { user: "a".to_owned() },
            Refusal::Unavailable,
            Refusal::Busy,
        ];
        for refusal in &refusals {
            let status = refusal.answer().status().as_u16().to_string();
            let text = refusal.to_string();
            let mut of_it = rows.iter().filter(|(_, part)| text.contains(part));
            assert!(of_it.any(|(code, _)| *code == status), "{status}: {text}");
        }
        // The one row more is of the port, not of a refusal.
        let known = |part: &str| refusals.iter().any(|refusal| refusal.to_string().contains(part));
        let others: Vec<_> = rows.iter().filter(|(_, part)| !known(part)).collect();
        assert_eq!(others, [&("400", "this endpoint speaks TLS")]);
    }
}
