//! One request to the API server and its answer, with bounds, and with an error for every status but success.

use std::time::Duration;

use bytes::BytesMut;
use http::{Request, Response, StatusCode, header};
use http_body_util::BodyExt as _;
use kube::client::{Body, Client};

use super::api::{ApiError, RawStatus};

/// Largest error text that is read.
const MAX_STATUS_BYTES: usize = 64 << 10;
/// Longest wait that a server may ask for.
const MAX_RETRY_AFTER: Duration = Duration::from_mins(1);

/// Sends a request, and makes an error of every status but success.
pub(super) async fn send(
    client: &Client,
    request: Request<Body>,
) -> Result<Response<Body>, ApiError> {
    let response = client.send(request).await.map_err(ApiError::Transport)?;
    if response.status().is_success() {
        return Ok(response);
    }
    let (status, retry_after) = (response.status(), retry_after(&response));
    let text = read(response.into_body(), MAX_STATUS_BYTES).await.unwrap_or_default();
    Err(ApiError::Refused { code: status.as_u16(), message: message(status, &text), retry_after })
}

/// All of a body, if it has no more than `max_bytes`.
pub(super) async fn read(mut body: Body, max_bytes: usize) -> Result<BytesMut, ApiError> {
    let mut bytes = BytesMut::new();
    while let Some(frame) = body.frame().await {
        let frame = frame.map_err(ApiError::Transport)?;
        if let Some(data) = frame.data_ref() {
            bytes.extend_from_slice(data);
        }
        if bytes.len() > max_bytes {
            return Err(ApiError::TooLarge(max_bytes));
        }
    }
    Ok(bytes)
}

/// What the server says in its Status object, or what its code means where it is no such server that answers.
fn message(status: StatusCode, text: &[u8]) -> String {
    match serde_json::from_slice::<RawStatus>(text) {
        Ok(status) if !status.message.is_empty() => status.message,
        _ => status.canonical_reason().unwrap_or("no reason given").into(),
    }
}

fn retry_after<B>(response: &Response<B>) -> Option<Duration> {
    let text = response.headers().get(header::RETRY_AFTER)?.to_str().ok()?;
    let seconds = text.trim().parse().ok()?;
    Some(Duration::from_secs(seconds).min(MAX_RETRY_AFTER))
}
