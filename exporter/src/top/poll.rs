//! One look after another at the endpoint, and what happened in between.

use std::time::{Duration, Instant};

use http::Uri;

use super::{
    error::{TopError, endpoint},
    page,
};
use crate::{
    labelling::glance::{Rates, Reading, rates},
    source::upstream::client::{Client, config::ClientConfig, error::FetchError},
};

/// How long an answer may take.
const TIME_LIMIT: Duration = Duration::from_secs(10);

/// Asks, and remembers what was there the last time.
#[derive(Debug)]
pub(super) struct Poller {
    client: Client,
    url: Uri,
    last: Option<(Instant, Reading)>,
}

impl Poller {
    pub(super) fn new(config: ClientConfig) -> Self {
        Self { url: config.url.clone(), client: Client::new(config), last: None }
    }

    /// Scheme, host and port.
    pub(super) fn endpoint(&self) -> String {
        endpoint(&self.url)
    }

    /// What happened since the last look that succeeded; none at the first one.
    pub(super) async fn look(&mut self) -> Result<Option<Rates>, TopError> {
        let fetched = self.fetch().await;
        let (page, content_type) =
            fetched.map_err(|source| TopError::of_fetch(&self.url, source))?;
        let now = Instant::now();
        let reading = page::read(&page, content_type.as_deref());
        let reading =
            reading.map_err(|source| TopError::Page { endpoint: self.endpoint(), source })?;
        let reading = reading.ok_or_else(|| TopError::NotPodmeter { endpoint: self.endpoint() })?;
        let last = self.last.take();
        let rates = last.map(|(then, before)| rates(&before, &reading, now.duration_since(then)));
        self.last = Some((now, reading));
        Ok(rates)
    }

    /// The page and its `Content-Type`.
    async fn fetch(&mut self) -> Result<(Vec<u8>, Option<String>), FetchError> {
        let mut page = Vec::new();
        let mut answer = self.client.fetch(TIME_LIMIT).await?;
        while let Some(bytes) = answer.next().await? {
            page.extend_from_slice(&bytes);
        }
        Ok((page, answer.content_type().map(str::to_owned)))
    }
}
