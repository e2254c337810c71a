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
    demand::DemandError,
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

/// The fastest of the levels that are meant for size as well.
const ZSTD_LEVEL: i32 = 1;

/// When the scraper gives up, as Prometheus says it.
pub(super) const SCRAPE_TIMEOUT: HeaderName =
    HeaderName::from_static("x-prometheus-scrape-timeout-seconds");

/// What is left of the scraper's time for the page and the way back; `blackbox_exporter` keeps as much.
const TIMEOUT_OFFSET: Duration = Duration::from_millis(500);

#[derive(Debug, thiserror::Error)]
enum ScrapeError<E: Error + 'static> {
    #[error(transparent)]
    Demand(#[from] DemandError),
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
    query: &str,
    headers: &HeaderMap,
) -> Response<AnswerBody> {
    let format = accept::format(&joined(headers, &header::ACCEPT)).unwrap_or_else(|error| {
        router.warn_of_accept(&error);
        Format::Text004
    });
    let coding = accept::coding(&joined(headers, &header::ACCEPT_ENCODING));
    let time_limit = patience(headers, router.limits().scrape_time);
    match scrape(router, query, time_limit, format, coding).await {
        Ok(body) => page_answer(body, format, coding),
        Err(error) => refusal(router, &error),
    }
}

async fn scrape<A: App>(
    router: &Router<A>,
    query: &str,
    time_limit: Option<Duration>,
    format: Format,
    coding: Coding,
) -> Result<AnswerBody, ScrapeError<A::Error>> {
    let demand = router.app.demand(query)?;
    let limits = router.limits();
    let deadline = Instant::now() + limits.scrape_time;
    let Some(place) = ScrapePlace::take(&router.scrapes, deadline) else {
        return Err(ScrapeError::Busy { n_scrapes: limits.n_scrapes });
    };
    let collect_and_write = async {
        let page = router.app.metrics(demand, time_limit).await.map_err(ScrapeError::Collect)?;
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
        Coding::Zstd => {
            let n_bytes: usize = pieces.iter().map(Bytes::len).sum();
            let out = Vec::with_capacity(n_bytes / 8);
            let mut encoder = zstd::stream::write::Encoder::new(out, ZSTD_LEVEL)?;
            encoder.set_pledged_src_size(u64::try_from(n_bytes).ok())?;
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
    match coding.name() {
        None => answer,
        Some(name) => {
            router::with(answer, header::CONTENT_ENCODING, HeaderValue::from_static(name))
        }
    }
}

fn refusal<A: App>(router: &Router<A>, error: &ScrapeError<A::Error>) -> Response<AnswerBody> {
    let message = format!("{}\n", Chain(error));
    match error {
        ScrapeError::Demand(_) => router::text(StatusCode::BAD_REQUEST, message),
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

/// How long targets and sources may take for a scraper that says when it gives up: less, for what comes behind them.
///
/// A header that is no time is none, as exporters have it.
pub(super) fn patience(headers: &HeaderMap, longest: Duration) -> Option<Duration> {
    let seconds: f64 = headers.get(&SCRAPE_TIMEOUT)?.to_str().ok()?.trim().parse().ok()?;
    let said =
        Duration::try_from_secs_f64(seconds).ok().filter(|said| !said.is_zero())?.min(longest);
    Some(said.saturating_sub(TIMEOUT_OFFSET).max(said / 2))
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

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use hyper::{HeaderMap, header::HeaderValue};

    use super::{SCRAPE_TIMEOUT, patience};

    #[test]
    fn a_scraper_says_how_long_it_waits() {
        let check = |header: &'static str, expected: Option<u64>| {
            let value = HeaderValue::from_static(header);
            let headers = HeaderMap::from_iter([(SCRAPE_TIMEOUT, value)]);
            let patience = patience(&headers, Duration::from_mins(1));
            assert_eq!(patience, expected.map(Duration::from_millis), "{header}");
        };
        check("10", Some(9_500));
        check(" 2.5 ", Some(2_000));
        check("0.6", Some(300));
        check("1e9", Some(59_500));
        check("1e300", None);
        for none in ["", "0", "-1", "NaN", "inf", "10s", "1,2"] {
            check(none, None);
        }
        assert_eq!(patience(&HeaderMap::new(), Duration::from_mins(1)), None);
    }
}
