//! Whose a token is, and whether he may read a path, by the API server's word: a `TokenReview`, then a
//! `SubjectAccessReview`, as kube-rbac-proxy asks. Nothing is remembered here.

use std::{collections::BTreeMap, time::Duration};

use http::{Request, header};
use kube::client::{Body, Client};
use serde::{Deserialize, Serialize, de::DeserializeOwned};
use serde_json::{Value, json};
use tokio::{sync::Mutex, time};

use super::{
    api::ApiError,
    connect::{Access, ConnectError},
    exchange,
};

/// How long both reviews may take together: a scraper that waits has some time left for the page.
const REVIEW_TIME: Duration = Duration::from_secs(3);
/// Largest answer; a user may be in hundreds of groups.
const MAX_ANSWER_BYTES: usize = 1 << 20;

const TOKEN_REVIEWS: &str = "/apis/authentication.k8s.io/v1/tokenreviews";
const ACCESS_REVIEWS: &str = "/apis/authorization.k8s.io/v1/subjectaccessreviews";

/// Asks the API server about tokens of others.
pub struct Reviewer {
    access: Access,
    client: Mutex<Option<Client>>,
}

/// What the API server says of a token.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Review {
    /// Its owner may.
    Allowed,
    /// It is nobody's, or has expired.
    Unknown,
    /// Its owner may not.
    Forbidden {
        /// The owner.
        user: String,
    },
}

/// Why the API server says nothing.
#[derive(Debug, thiserror::Error)]
pub enum ReviewError {
    /// There is no client.
    #[error("cannot ask the Kubernetes API about tokens")]
    Connect(#[source] Box<dyn std::error::Error + Send + Sync>),
    /// It does not let Podmeter ask.
    #[error(
        "the Kubernetes API does not let Podmeter ask about tokens: its ClusterRole needs create on \
         tokenreviews.authentication.k8s.io and subjectaccessreviews.authorization.k8s.io, which deploy/chart gives it \
         with web.kubernetesAuth"
    )]
    NotAllowed(#[source] Box<dyn std::error::Error + Send + Sync>),
    /// It gave no answer that makes sense.
    #[error("the Kubernetes API says nothing about a token")]
    Api(#[source] Box<dyn std::error::Error + Send + Sync>),
}

/// The owner of a token, as a `TokenReview` names him and a `SubjectAccessReview` wants him named.
#[derive(Debug, Default, Deserialize, Serialize)]
#[serde(default)]
struct RawUser {
    #[serde(rename(deserialize = "username", serialize = "user"))]
    name: String,
    uid: String,
    groups: Vec<String>,
    extra: BTreeMap<String, Vec<String>>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct RawReview<S> {
    status: S,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct RawToken {
    authenticated: bool,
    user: RawUser,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct RawAccess {
    allowed: bool,
}

impl Reviewer {
    /// One that has not connected yet.
    #[must_use]
    pub fn new(access: Access) -> Self {
        Self { access, client: Mutex::default() }
    }

    /// How it reaches the API.
    #[must_use]
    pub fn access(&self) -> &Access {
        &self.access
    }

    /// Whether the owner of the token may `GET` the path, which belongs to no resource.
    pub async fn review(&self, token: &str, path: &str) -> Result<Review, ReviewError> {
        let client = self.client().await.map_err(|error| ReviewError::Connect(error.into()))?;
        let asked = time::timeout(REVIEW_TIME, ask(&client, token, path)).await;
        let answer = asked.unwrap_or(Err(ApiError::Silent(REVIEW_TIME)));
        if answer.is_err() {
            // Its credentials, or the connection, may be the reason.
            *self.client.lock().await = None;
        }
        answer.map_err(|error| match error {
            ApiError::Refused { code: 403, .. } => ReviewError::NotAllowed(error.into()),
            error => ReviewError::Api(error.into()),
        })
    }

    async fn client(&self) -> Result<Client, ConnectError> {
        let mut kept = self.client.lock().await;
        if let Some(client) = &*kept {
            return Ok(client.clone());
        }
        let client = self.access.connect().await?;
        *kept = Some(client.clone());
        Ok(client)
    }
}

async fn ask(client: &Client, token: &str, path: &str) -> Result<Review, ApiError> {
    let review = json!({
        "apiVersion": "authentication.k8s.io/v1",
        "kind": "TokenReview",
        "spec": { "token": token },
    });
    let RawToken { authenticated, user } = create(client, TOKEN_REVIEWS, &review).await?;
    if !authenticated {
        return Ok(Review::Unknown);
    }
    let mut spec = serde_json::to_value(&user).map_err(ApiError::Decode)?;
    if let Some(spec) = spec.as_object_mut() {
        let attributes = json!({ "path": path, "verb": "get" });
        spec.insert("nonResourceAttributes".into(), attributes);
    }
    let review = json!({
        "apiVersion": "authorization.k8s.io/v1",
        "kind": "SubjectAccessReview",
        "spec": spec,
    });
    let RawAccess { allowed } = create(client, ACCESS_REVIEWS, &review).await?;
    Ok(if allowed { Review::Allowed } else { Review::Forbidden { user: user.name } })
}

/// Creates an object that is only an answer, and gives its status.
async fn create<S: DeserializeOwned + Default>(
    client: &Client,
    path: &str,
    object: &Value,
) -> Result<S, ApiError> {
    let request = Request::post(path)
        .header(header::ACCEPT, "application/json")
        .header(header::CONTENT_TYPE, "application/json")
        .body(Body::from(object.to_string().into_bytes()))
        .map_err(ApiError::Request)?;
    let body = exchange::send(client, request).await?.into_body();
    let bytes = exchange::read(body, MAX_ANSWER_BYTES).await?;
    let review: RawReview<S> = serde_json::from_slice(&bytes).map_err(ApiError::Decode)?;
    Ok(review.status)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::{RawReview, RawToken};

    #[test]
    fn the_owner_goes_from_one_review_into_the_other() {
        // As Kubernetes 1.20 answers.
        let answer = r#"{"kind":"TokenReview","apiVersion":"authentication.k8s.io/v1","metadata":{},"spec":{"token":"t"},
            "status":{"authenticated":true,"user":{"username":"system:serviceaccount:a:b","uid":"1",
            "groups":["system:serviceaccounts"],"extra":{"example.com/a":["x"]}},"audiences":["api"]}}"#;
        let review: RawReview<RawToken> = serde_json::from_str(answer).unwrap();
        assert!(review.status.authenticated);
        let expected = json!({ "user": "system:serviceaccount:a:b", "uid": "1",
            "groups": ["system:serviceaccounts"], "extra": { "example.com/a": ["x"] } });
        assert_eq!(serde_json::to_value(review.status.user).unwrap(), expected);
        let unknown =
            r#"{"kind":"TokenReview","status":{"user":{},"error":"invalid bearer token"}}"#;
        let review: RawReview<RawToken> = serde_json::from_str(unknown).unwrap();
        assert!(!review.status.authenticated);
    }
}
