//! Tokens that the Kubernetes API is asked about, here a fake one; tests/it/cluster/endpoint.rs asks a real one.

use super::harness::{Behaviour, Event, Harness};
use crate::server::{app::TokenVerdict, limits::Limits};

fn review(token: &str) -> TokenVerdict {
    match token {
        "good" => TokenVerdict::Allowed,
        "other" => TokenVerdict::Forbidden { user: "system:serviceaccount:a:b".to_owned() },
        "away" => TokenVerdict::Unavailable,
        _ => TokenVerdict::Unknown,
    }
}

async fn start() -> Harness {
    let behaviour = Behaviour { review: Some(review), ..Behaviour::default() };
    Harness::start(behaviour, Limits::default()).await
}

fn get(path: &str, token: &str) -> String {
    format!("GET {path} HTTP/1.1\r\nAuthorization: Bearer {token}")
}

#[tokio::test]
async fn a_token_must_be_of_one_who_may() {
    let harness = start().await;
    let bearer = "Bearer realm=\"podmeter\"";
    let invalid = "Bearer realm=\"podmeter\", error=\"invalid_token\"";
    for (head, status, challenge, says) in [
        (get("/metrics", "good"), 200, None, "podmeter_test_total"),
        (get("/", "good"), 200, None, "of one whom the Kubernetes API lets GET /metrics"),
        (get("/metrics", "strange"), 401, Some(invalid), "does not know this token"),
        (get("/metrics", "other"), 403, None, "system:serviceaccount:a:b may not read the page"),
        (get("/", "other"), 403, None, "nonResourceURLs [/metrics]"),
        (get("/metrics", "away"), 503, None, "cannot be asked"),
        ("GET /metrics HTTP/1.1".to_owned(), 401, Some(bearer), "a token of a ServiceAccount"),
        (get("/metrics", "good").replace("Bearer", "Basic"), 401, Some(bearer), "a token"),
        ("GET /healthz HTTP/1.1".to_owned(), 200, None, "ok"),
        ("GET /readyz HTTP/1.1".to_owned(), 200, None, "ok"),
    ] {
        let reply = harness.ask(&head).await;
        assert_eq!(reply.status, status, "{head}");
        assert_eq!(reply.header("www-authenticate"), challenge, "{head}");
        assert!(reply.text().contains(says), "{head}: {}", reply.text());
        assert!(!reply.text().contains("strange"), "{}", reply.text());
    }
}

#[tokio::test]
async fn an_answer_is_remembered_whether_good_or_bad() {
    let mut harness = start().await;
    for (token, status) in [("good", 200), ("strange", 401), ("other", 403)] {
        for _ in 0..3 {
            assert_eq!(harness.ask(&get("/metrics", token)).await.status, status);
        }
        assert_eq!(harness.count(Event::Reviewed), 1, "{token}");
    }
}
