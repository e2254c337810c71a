//! Requests to the API server, and what its refusals and silences mean.

use std::time::Duration;

use http::{Request, Response, StatusCode, header};
use http_body_util::BodyExt as _;
use kube::client::{Body, Client};
use serde::{Deserialize, de::DeserializeOwned};
use tokio::time;

use super::{
    discovery::{Place, Places, RawResources},
    exchange,
    lines::Lines,
    object::{RawMetadata, RawObject, RawPod},
    owners::{ForeignKind, ObjectKey, ObjectKind},
    path::group_path,
};
use crate::percent::escaped;

/// How long a request may take that is no watch.
const REQUEST_TIMEOUT: Duration = Duration::from_secs(30);
/// Largest answer to a list: pods of 30 kB, as many as are kept.
const MAX_LIST_BYTES: usize = 64 << 20;
/// Largest single object or event; etcd takes 1.5 MB by default.
const MAX_OBJECT_BYTES: usize = 8 << 20;
/// Pods in one page of a list, as kubectl asks for.
const PAGE_SIZE: u32 = 500;

/// Metadata alone, as every server since Kubernetes 1.15 gives it.
const METADATA_ONLY: &str =
    "application/json;as=PartialObjectMetadata;g=meta.k8s.io;v=v1,application/json";

/// The API server, and the node whose pods are asked for.
#[derive(Clone)]
pub(super) struct Api {
    client: Client,
    node: String,
    places: Places,
}

/// Where a list begins.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum ListFrom {
    /// Whatever the server has in its cache, which costs it little.
    Cache,
    /// Not older than a version that was seen before.
    NotOlderThan(String),
    /// The next page.
    Page(String),
}

/// A page of a list.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct PodList {
    pub(super) metadata: ListMetadata,
    pub(super) items: Vec<RawPod>,
}

/// Where a list ends.
#[derive(Debug, Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub(super) struct ListMetadata {
    pub(super) resource_version: String,
    #[serde(rename = "continue")]
    pub(super) next: String,
}

/// One line of a watch.
#[derive(Debug, Deserialize)]
#[serde(tag = "type", content = "object", rename_all = "UPPERCASE")]
pub(super) enum Event {
    Added(Box<RawPod>),
    Modified(Box<RawPod>),
    Deleted(Box<RawPod>),
    Bookmark(Box<RawObject>),
    Error(RawStatus),
}

/// Why the server refused.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct RawStatus {
    pub(super) message: String,
    code: u16,
}

/// Why a request gave nothing.
#[derive(Debug, thiserror::Error)]
pub(super) enum ApiError {
    /// The server refused.
    #[error("the API server answered {code}: {message}")]
    Refused { code: u16, message: String, retry_after: Option<Duration> },
    /// The connection could not be made, or broke.
    #[error("cannot talk to the API server")]
    Transport(#[source] kube::Error),
    /// Nothing came for too long.
    #[error("the API server was silent for {} s", .0.as_secs())]
    Silent(Duration),
    /// The answer is none that the API gives.
    #[error("cannot understand the API server's answer")]
    Decode(#[source] serde_json::Error),
    /// The answer is too large.
    #[error("the API server's answer has more than {0} bytes")]
    TooLarge(usize),
    /// A name is none that can be asked for.
    #[error("cannot ask for this object")]
    Request(#[source] http::Error),
}

/// Kinds of errors, as the self-metrics count them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ErrorKind {
    /// 401: the token is not, or no longer, valid.
    Unauthorized,
    /// 403: the role does not allow it.
    Forbidden,
    /// 410: what a watch should go on from is gone.
    Expired,
    /// 429: the server is busy.
    Throttled,
    /// 404.
    NotFound,
    /// Any other refusal.
    Refused,
    /// 5xx.
    Server,
    /// No connection, or a broken one.
    Connection,
    /// Silence.
    Timeout,
    /// An answer that makes no sense.
    Protocol,
}

impl ErrorKind {
    /// All of them.
    pub const ALL: [Self; 10] = [
        Self::Unauthorized,
        Self::Forbidden,
        Self::Expired,
        Self::Throttled,
        Self::NotFound,
        Self::Refused,
        Self::Server,
        Self::Connection,
        Self::Timeout,
        Self::Protocol,
    ];

    /// The value of a label.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Unauthorized => "unauthorized",
            Self::Forbidden => "forbidden",
            Self::Expired => "expired",
            Self::Throttled => "throttled",
            Self::NotFound => "not_found",
            Self::Refused => "refused",
            Self::Server => "server",
            Self::Connection => "connection",
            Self::Timeout => "timeout",
            Self::Protocol => "protocol",
        }
    }
}

impl ApiError {
    pub(super) fn kind(&self) -> ErrorKind {
        match self {
            Self::Refused { code, .. } => match code {
                401 => ErrorKind::Unauthorized,
                403 => ErrorKind::Forbidden,
                404 => ErrorKind::NotFound,
                410 => ErrorKind::Expired,
                429 => ErrorKind::Throttled,
                500.. => ErrorKind::Server,
                _ => ErrorKind::Refused,
            },
            Self::Transport(_) => ErrorKind::Connection,
            Self::Silent(_) => ErrorKind::Timeout,
            Self::Decode(_) | Self::TooLarge(_) | Self::Request(_) => ErrorKind::Protocol,
        }
    }

    /// How long the server wants to be left alone.
    pub(super) fn retry_after(&self) -> Option<Duration> {
        match self {
            Self::Refused { retry_after, .. } => *retry_after,
            _ => None,
        }
    }
}

impl From<RawStatus> for ApiError {
    fn from(status: RawStatus) -> Self {
        Self::Refused { code: status.code, message: status.message, retry_after: None }
    }
}

impl Api {
    pub(super) fn new(client: Client, node: &str) -> Self {
        Self { client, node: escaped(node).to_string(), places: Places::default() }
    }

    /// One page of the pods of this node.
    pub(super) async fn list(&self, from: &ListFrom) -> Result<PodList, ApiError> {
        let from = match from {
            ListFrom::Cache => "&resourceVersion=0".to_owned(),
            ListFrom::NotOlderThan(version) => {
                format!("&resourceVersion={}&resourceVersionMatch=NotOlderThan", escaped(version))
            }
            ListFrom::Page(next) => format!("&continue={}", escaped(next)),
        };
        let path = format!("{}&limit={PAGE_SIZE}{from}", self.pods());
        self.get(&path, "application/json", MAX_LIST_BYTES).await
    }

    /// Changes since a version, for at most so long.
    pub(super) async fn watch(&self, version: &str, seconds: u64) -> Result<EventStream, ApiError> {
        let path = format!(
            "{}&watch=true&allowWatchBookmarks=true&timeoutSeconds={seconds}&resourceVersion={}",
            self.pods(),
            escaped(version)
        );
        self.open(&path).await
    }

    /// All pods of this node, a bookmark that says so, and then changes.
    pub(super) async fn stream(&self, seconds: u64) -> Result<EventStream, ApiError> {
        let path = format!(
            "{}&watch=true&allowWatchBookmarks=true&timeoutSeconds={seconds}\
             &sendInitialEvents=true&resourceVersionMatch=NotOlderThan&resourceVersion=",
            self.pods()
        );
        self.open(&path).await
    }

    /// The metadata of one object, out of the server's cache.
    pub(super) async fn metadata(&self, key: &ObjectKey) -> Result<RawMetadata, ApiError> {
        let place = match &key.kind {
            ObjectKind::Foreign(kind) => self.place(kind).await?,
            own => Place { resource: own.name().into(), is_namespaced: !key.namespace.is_empty() },
        };
        let group = group_path(key.kind.api_version());
        let namespace = if place.is_namespaced {
            format!("/namespaces/{}", escaped(&key.namespace))
        } else {
            String::new()
        };
        let (resource, name) = (escaped(&place.resource), escaped(&key.name));
        let path = format!("{group}{namespace}/{resource}/{name}?resourceVersion=0");
        let object: RawObject = self.get(&path, METADATA_ONLY, MAX_OBJECT_BYTES).await?;
        Ok(object.metadata)
    }

    /// Whether the metadata of an object can be asked for without asking where it is.
    pub(super) fn knows_place(&self, kind: &ObjectKind) -> bool {
        !matches!(kind, ObjectKind::Foreign(kind) if self.places.get(kind).is_none())
    }

    /// Where a foreign kind is: asked once, and again only if there is none.
    async fn place(&self, kind: &ForeignKind) -> Result<Place, ApiError> {
        if let Some(place) = self.places.get(kind) {
            return Ok(place);
        }
        let path = group_path(&kind.api_version);
        let resources: RawResources = self.get(&path, "application/json", MAX_OBJECT_BYTES).await?;
        let place = resources.find(&kind.kind).ok_or_else(|| ApiError::Refused {
            code: StatusCode::NOT_FOUND.as_u16(),
            message: format!("the API server has no kind {}", kind.kind),
            retry_after: None,
        })?;
        self.places.put(kind, place.clone());
        Ok(place)
    }

    fn pods(&self) -> String {
        format!("/api/v1/pods?fieldSelector=spec.nodeName%3D{}", self.node)
    }

    async fn get<T: DeserializeOwned>(
        &self,
        path: &str,
        accept: &str,
        max_bytes: usize,
    ) -> Result<T, ApiError> {
        let answer = async {
            let body = self.send(path, accept).await?.into_body();
            let bytes = exchange::read(body, max_bytes).await?;
            serde_json::from_slice(&bytes).map_err(ApiError::Decode)
        };
        time::timeout(REQUEST_TIMEOUT, answer)
            .await
            .unwrap_or(Err(ApiError::Silent(REQUEST_TIMEOUT)))
    }

    async fn open(&self, path: &str) -> Result<EventStream, ApiError> {
        let response = time::timeout(REQUEST_TIMEOUT, self.send(path, "application/json"))
            .await
            .unwrap_or(Err(ApiError::Silent(REQUEST_TIMEOUT)))?;
        Ok(EventStream::new(response.into_body()))
    }

    /// Sends a request, and makes an error of every status but success.
    async fn send(&self, path: &str, accept: &str) -> Result<Response<Body>, ApiError> {
        let request = Request::get(path)
            .header(header::ACCEPT, accept)
            // Kubernetes 1.37 compresses each event of a watch by itself, which is not read here.
            .header(header::ACCEPT_ENCODING, "identity")
            .body(Body::empty())
            .map_err(ApiError::Request)?;
        exchange::send(&self.client, request).await
    }
}

/// The events of a watch.
pub(super) struct EventStream {
    body: Body,
    lines: Lines,
}

impl EventStream {
    pub(super) fn new(body: Body) -> Self {
        Self { body, lines: Lines::default() }
    }

    /// The next event; `None` when the server ends the watch, as it does when the time is up.
    pub(super) async fn next(&mut self, silence: Duration) -> Result<Option<Event>, ApiError> {
        loop {
            if let Some(line) = self.lines.next() {
                return serde_json::from_slice(&line).map(Some).map_err(ApiError::Decode);
            }
            if self.lines.n_bytes() > MAX_OBJECT_BYTES {
                return Err(ApiError::TooLarge(MAX_OBJECT_BYTES));
            }
            match time::timeout(silence, self.body.frame()).await {
                Err(_elapsed) => return Err(ApiError::Silent(silence)),
                Ok(None) => return Ok(None),
                Ok(Some(Err(error))) => return Err(ApiError::Transport(error)),
                Ok(Some(Ok(frame))) => {
                    if let Some(data) = frame.data_ref() {
                        self.lines.push(data);
                    }
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::{Event, RawStatus};

    #[test]
    fn recorded_events_are_understood() {
        let gone = include_str!("../../../../tests/fixtures/v1.34.9/watch/gone.jsonl");
        let event: Event = serde_json::from_str(gone).unwrap();
        let Event::Error(RawStatus { code, .. }) = event else { panic!("{event:?}") };
        assert_eq!(code, 410);
        let bookmark = r#"{"type":"BOOKMARK","object":{"kind":"Pod","apiVersion":"v1","metadata":{"resourceVersion":"720"},"spec":{"containers":null},"status":{}}}"#;
        let Event::Bookmark(object) = serde_json::from_str(bookmark).unwrap() else { panic!() };
        assert_eq!(object.metadata.resource_version, "720");
    }
}
