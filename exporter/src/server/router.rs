//! From a request to its answer: which path, which method, and what is refused before either.

use std::sync::{
    Arc,
    atomic::{AtomicBool, Ordering},
};

use hyper::{
    Method, Request, Response, StatusCode,
    body::{Body as _, Incoming},
    header::{self, HeaderName, HeaderValue},
};
use tokio::sync::Semaphore;

use super::{
    app::{App, Handler, Readiness},
    body::AnswerBody,
    landing,
    limits::{Limit, Limits},
    scrape,
};
use crate::encode::accept::UnreadableAccept;

/// What every connection shares.
pub(super) struct Router<A> {
    pub(super) app: Arc<A>,
    pub(super) scrapes: Arc<Semaphore>,
    pub(super) has_warned_of_accept: AtomicBool,
    limits: Limits,
}

const PLAIN_TEXT: HeaderValue = HeaderValue::from_static("text/plain; charset=utf-8");
const HTML: HeaderValue = HeaderValue::from_static("text/html; charset=utf-8");

const PATHS: &str = "\
/metrics  the metrics of this node; ?job=, ?collect[]= and ?exclude[]= choose a part
/healthz  whether Podmeter runs
/readyz   whether Podmeter is ready, or why not
/         version, probes and sources, for people
";

impl<A: App> Router<A> {
    pub(super) fn new(app: Arc<A>, limits: Limits) -> Self {
        Self {
            app,
            scrapes: Arc::new(Semaphore::new(limits.n_scrapes)),
            has_warned_of_accept: AtomicBool::new(false),
            limits,
        }
    }

    pub(super) fn limits(&self) -> &Limits {
        &self.limits
    }

    pub(super) fn limit_hit(&self, limit: Limit) {
        self.app.limit_hit(limit);
    }

    /// Answers one request.
    pub(super) async fn answer(&self, request: Request<Incoming>) -> Response<AnswerBody> {
        let handler = match request.uri().path() {
            "/metrics" => Handler::Metrics,
            "/healthz" => Handler::Healthz,
            "/readyz" => Handler::Readyz,
            "/" => Handler::Landing,
            _ => Handler::Unknown,
        };
        let answer = match self.refuse(&request, handler) {
            Some(refusal) => refusal,
            None => self.handle(handler, &request).await,
        };
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
            return Some(with(answer, header::CONNECTION, HeaderValue::from_static("close")));
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
                let html = landing::html(&self.app.landing());
                with(text(StatusCode::OK, html), header::CONTENT_TYPE, HTML)
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
