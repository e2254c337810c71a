//! `/metrics`: a place, a page, its bytes, all in bounded time.

use std::{
    error::Error,
    fmt,
    io::{self, Write as _},
    sync::Arc,
    time::Duration,
};

use bytes::Bytes;
use flate2::{Compression, write::GzEncoder};
use hyper::{
    HeaderMap, Response, StatusCode,
    header::{self, HeaderName, HeaderValue},
};
use tokio::{task::JoinError, time::Instant};

use super::{
    app::App,
    body::{AnswerBody, ScrapePlace},
    limits::Limit,
    router::{self, Router},
};
use crate::{
    encode::{
        self, Format,
        accept::{self, Coding},
    },
    page::Page,
};

/// A page of so many series is written by the connection's own task; a larger one would keep other tasks waiting.
const MAX_INLINE_SERIES: usize = 64;

/// The fastest level that compresses: what it saves over the network costs the node least.
const GZIP_LEVEL: u32 = 1;

#[derive(Debug, thiserror::Error)]
enum ScrapeError<E: Error + 'static> {
    #[error("too many scrapes run at once ({n_scrapes}): let fewer scrapers ask, or less often")]
    Busy { n_scrapes: usize },
    #[error("the scrape took longer than {} s", limit.as_secs_f64())]
    TooLong { limit: Duration },
    #[error("failed to collect the metrics")]
    Collect(#[source] E),
    #[error("failed to compress the page")]
    Compress(#[source] io::Error),
    #[error("failed to write the page")]
    Write(#[source] JoinError),
}

/// Collects a page and answers with it.
pub(super) async fn answer<A: App>(
    router: &Router<A>,
    headers: &HeaderMap,
) -> Response<AnswerBody> {
    let format = accept::format(&joined(headers, &header::ACCEPT)).unwrap_or_else(|error| {
        router.warn_of_accept(&error);
        Format::Text004
    });
    let coding = accept::coding(&joined(headers, &header::ACCEPT_ENCODING));
    match scrape(router, format, coding).await {
        Ok(body) => page_answer(body, format, coding),
        Err(error) => refusal(router, &error),
    }
}

async fn scrape<A: App>(
    router: &Router<A>,
    format: Format,
    coding: Coding,
) -> Result<AnswerBody, ScrapeError<A::Error>> {
    let limits = router.limits();
    let deadline = Instant::now() + limits.scrape_time;
    let Some(place) = ScrapePlace::take(&router.scrapes, deadline) else {
        return Err(ScrapeError::Busy { n_scrapes: limits.n_scrapes });
    };
    let collect_and_write = async {
        let page = router.app.metrics().await.map_err(ScrapeError::Collect)?;
        write(page, format, coding).await
    };
    match tokio::time::timeout_at(place.deadline(), collect_and_write).await {
        Ok(pieces) => Ok(AnswerBody::of_scrape(pieces?, place)),
        Err(_elapsed) => Err(ScrapeError::TooLong { limit: limits.scrape_time }),
    }
}

async fn write<E: Error + 'static>(
    page: Arc<Page>,
    format: Format,
    coding: Coding,
) -> Result<Vec<Bytes>, ScrapeError<E>> {
    let pieces = if page.n_series() <= MAX_INLINE_SERIES {
        page_pieces(&page, format, coding)
    } else {
        tokio::task::spawn_blocking(move || page_pieces(&page, format, coding))
            .await
            .map_err(ScrapeError::Write)?
    };
    pieces.map_err(ScrapeError::Compress)
}

fn page_pieces(page: &Page, format: Format, coding: Coding) -> io::Result<Vec<Bytes>> {
    let pieces = encode::encode_pieces(page, format);
    match coding {
        Coding::Identity => Ok(pieces),
        Coding::Gzip => {
            // Pages shrink to about a tenth.
            let n_bytes: usize = pieces.iter().map(Bytes::len).sum();
            let out = Vec::with_capacity(n_bytes / 8);
            let mut encoder = GzEncoder::new(out, Compression::new(GZIP_LEVEL));
            for piece in pieces {
                encoder.write_all(&piece)?;
            }
            Ok(vec![Bytes::from(encoder.finish()?)])
        }
    }
}

fn page_answer(body: AnswerBody, format: Format, coding: Coding) -> Response<AnswerBody> {
    let content_type = HeaderValue::from_static(format.content_type());
    let vary = HeaderValue::from_static("Accept, Accept-Encoding");
    let answer = router::with(Response::new(body), header::CONTENT_TYPE, content_type);
    let answer = router::with(answer, header::VARY, vary);
    match coding {
        Coding::Identity => answer,
        Coding::Gzip => {
            router::with(answer, header::CONTENT_ENCODING, HeaderValue::from_static("gzip"))
        }
    }
}

fn refusal<A: App>(router: &Router<A>, error: &ScrapeError<A::Error>) -> Response<AnswerBody> {
    let message = format!("{}\n", Chain(error));
    match error {
        ScrapeError::Busy { .. } => {
            router.limit_hit(Limit::Scrapes);
            let answer = router::text(StatusCode::SERVICE_UNAVAILABLE, message);
            router::with(answer, header::RETRY_AFTER, HeaderValue::from_static("1"))
        }
        ScrapeError::TooLong { .. } => {
            router.limit_hit(Limit::ScrapeTime);
            tracing::warn!(%error, "a scrape got no page");
            router::text(StatusCode::SERVICE_UNAVAILABLE, message)
        }
        ScrapeError::Collect(_) | ScrapeError::Compress(_) | ScrapeError::Write(_) => {
            tracing::error!(error = %Chain(error), "a scrape got no page");
            router::text(StatusCode::INTERNAL_SERVER_ERROR, message)
        }
    }
}

/// All values of a header as if they had come in one line.
fn joined(headers: &HeaderMap, name: &HeaderName) -> String {
    let values = headers.get_all(name).iter();
    let texts: Vec<_> = values.map(|value| String::from_utf8_lossy(value.as_bytes())).collect();
    texts.join(",")
}

/// An error with all of its causes.
struct Chain<'a>(&'a dyn Error);

impl fmt::Display for Chain<'_> {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{}", self.0)?;
        let mut cause = self.0.source();
        while let Some(error) = cause {
            write!(formatter, ": {error}")?;
            cause = error.source();
        }
        Ok(())
    }
}
