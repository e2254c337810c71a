//! From a request to its answer: which path, which method, and what is refused before either.

use std::{
    io,
    net::IpAddr,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    time::{Duration, Instant},
};

use hyper::{
    Method, Request, Response, StatusCode,
    body::{Body as _, Incoming},
    header::{self, HeaderName, HeaderValue},
};
use tokio::sync::Semaphore;

use super::{
    app::{App, Fact, Handler, Readiness, TlsFailure},
    body::AnswerBody,
    guard::{self, Guard, Refusal},
    landing,
    limits::{Limit, Limits},
    scrape,
    web::{Look, Rules, Web},
    wire::Peer,
};
use crate::{encode::accept::UnreadableAccept, error_chain::one_line};

/// What every connection shares.
pub(super) struct Router<A> {
    pub(super) app: Arc<A>,
    pub(super) scrapes: Arc<Semaphore>,
    pub(super) has_warned_of_accept: AtomicBool,
    limits: Limits,
    web: Web,
    guard: Guard,
    warned_of_tls: Mutex<Option<Instant>>,
}

/// How long failed handshakes are not warned of again: each connection may bring one.
const TLS_WARNING_PAUSE: Duration = Duration::from_mins(1);

const PLAIN_TEXT: HeaderValue = HeaderValue::from_static("text/plain; charset=utf-8");
pub(super) const CLOSE: HeaderValue = HeaderValue::from_static("close");
const HTML: HeaderValue = HeaderValue::from_static("text/html; charset=utf-8");

const PATHS: &str = "\
/metrics  the metrics of this node; ?job=, ?collect[]= and ?exclude[]= choose a part
/healthz  whether Podmeter runs
/readyz   whether Podmeter is ready, or why not
/         version, probes and sources, for people
";

impl<A: App> Router<A> {
    pub(super) fn new(app: Arc<A>, limits: Limits, web: Web, guard: Guard) -> Self {
        Self {
            app,
            scrapes: Arc::new(Semaphore::new(limits.n_scrapes)),
            has_warned_of_accept: AtomicBool::new(false),
            limits,
            web,
            guard,
            warned_of_tls: Mutex::new(None),
        }
    }

    pub(super) fn limits(&self) -> &Limits {
        &self.limits
    }

    pub(super) fn limit_hit(&self, limit: Limit) {
        self.app.limit_hit(limit);
    }

    /// What the web configuration says now.
    pub(super) async fn rules(&self) -> Arc<Rules> {
        match self.web.look().await {
            Look::Unchanged => {}
            Look::Reloaded => self.app.web_config_read(true),
            Look::Refused => self.app.web_config_read(false),
        }
        self.web.current()
    }

    /// Counts a handshake that failed, and says of one a minute why.
    pub(super) fn tls_failed(&self, address: IpAddr, failure: TlsFailure, error: &io::Error) {
        self.app.tls_failed(failure);
        let now = Instant::now();
        let mut warned = self.warned_of_tls.lock().unwrap_or_else(PoisonError::into_inner);
        let is_due = warned.is_none_or(|at| now.duration_since(at) >= TLS_WARNING_PAUSE);
        let error = one_line(error);
        if is_due && failure != TlsFailure::Broken {
            *warned = Some(now);
            tracing::warn!(%address, error, "a TLS handshake failed (said once a minute)");
        } else {
            tracing::debug!(%address, error, "a TLS handshake failed");
        }
    }

    /// Answers one request.
    pub(super) async fn answer(
        &self,
        request: Request<Incoming>,
        peer: &Peer,
    ) -> Response<AnswerBody> {
        let rules = self.rules().await;
        let handler = match request.uri().path() {
            "/metrics" => Handler::Metrics,
            "/healthz" => Handler::Healthz,
            "/readyz" => Handler::Readyz,
            "/" => Handler::Landing,
            _ => Handler::Unknown,
        };
        let mut has_shown_something = false;
        let mut answer = match self.refuse(&request, handler) {
            Some(refusal) => refusal,
            None => {
                match self.guard.admit(&*self.app, &rules, peer, handler, request.headers()).await {
                    Ok(()) => {
                        has_shown_something = guard::is_guarded(handler);
                        self.handle(handler, &request).await
                    }
                    Err(refusal) => {
                        if matches!(refusal, Refusal::Busy) {
                            self.limit_hit(Limit::Authentications);
                        }
                        refusal.answer()
                    }
                }
            }
        };
        for (name, value) in &rules.headers {
            answer.headers_mut().insert(name, value.clone());
        }
        let is_guarded = rules.is_guarded() || self.app.reviews_tokens();
        // Who is new to the present rules comes by a new connection, and who has shown nothing holds none.
        if peer.generation != rules.generation || (is_guarded && !has_shown_something) {
            answer = with(answer, header::CONNECTION, CLOSE);
        }
        self.app.observe(handler, answer.status().as_u16());
        answer
    }

    fn refuse(
        &self,
        request: &Request<Incoming>,
        handler: Handler,
    ) -> Option<Response<AnswerBody>> {
        if !request.body().is_end_stream() {
            self.limit_hit(Limit::RequestBody);
            let answer = text(StatusCode::PAYLOAD_TOO_LARGE, "no request here has a body\n");
            return Some(with(answer, header::CONNECTION, CLOSE));
        }
        let is_read = matches!(*request.method(), Method::GET | Method::HEAD);
        if handler == Handler::Unknown || is_read {
            return None;
        }
        let answer = text(StatusCode::METHOD_NOT_ALLOWED, "this path answers GET and HEAD only\n");
        Some(with(answer, header::ALLOW, HeaderValue::from_static("GET, HEAD")))
    }

    async fn handle(&self, handler: Handler, request: &Request<Incoming>) -> Response<AnswerBody> {
        match handler {
            Handler::Metrics => {
                let query = request.uri().query().unwrap_or_default();
                scrape::answer(self, query, request.headers()).await
            }
            Handler::Healthz => text(StatusCode::OK, "ok\n"),
            Handler::Readyz => match self.app.ready() {
                Readiness::Ready => text(StatusCode::OK, "ok\n"),
                Readiness::NotReady { reason } => {
                    text(StatusCode::SERVICE_UNAVAILABLE, format!("not ready: {reason}\n"))
                }
            },
            Handler::Landing => {
                let mut facts = self.web.facts().await;
                let token = if self.app.reviews_tokens() {
                    "of one whom the Kubernetes API lets GET /metrics"
                } else {
                    "not asked for"
                };
                facts.push(Fact { name: "token".into(), text: token.into(), is_well: true });
                let html = landing::html(&self.app.landing(), &facts);
                let answer = with(text(StatusCode::OK, html), header::CONTENT_TYPE, HTML);
                let policy = landing::CONTENT_SECURITY_POLICY;
                with(answer, header::CONTENT_SECURITY_POLICY, policy)
            }
            Handler::Unknown => text(
                StatusCode::NOT_FOUND,
                format!("there is nothing here; the paths are:\n{PATHS}"),
            ),
        }
    }

    /// Logs the first `Accept` header that cannot be read, and whispers the others: each scrape may bring one.
    pub(super) fn warn_of_accept(&self, error: &UnreadableAccept) {
        if self.has_warned_of_accept.swap(true, Ordering::Relaxed) {
            tracing::debug!(%error, "serving text 0.0.4");
        } else {
            tracing::warn!(
                %error,
                "serving text 0.0.4; let the scraper send a media type, or no accept header (said once)"
            );
        }
    }
}

/// An answer in plain text.
pub(super) fn text(status: StatusCode, body: impl Into<bytes::Bytes>) -> Response<AnswerBody> {
    let mut answer = Response::new(AnswerBody::new(body));
    *answer.status_mut() = status;
    with(answer, header::CONTENT_TYPE, PLAIN_TEXT)
}

/// The same answer with one header set.
pub(super) fn with(
    mut answer: Response<AnswerBody>,
    name: HeaderName,
    value: HeaderValue,
) -> Response<AnswerBody> {
    answer.headers_mut().insert(name, value);
    answer
}
