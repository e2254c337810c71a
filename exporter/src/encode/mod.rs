//! A page as bytes, and which format and compression a client wants. Pure: no IO, no clock.
//!
//! The formats: <https://prometheus.io/docs/instrumenting/exposition_formats/> (text 0.0.4) and
//! <https://prometheus.io/docs/specs/om/open_metrics_spec/> (`OpenMetrics` 1.0).

pub mod accept;
mod number;
mod openmetrics;
mod pieces;
mod relayed;
mod series;
mod text;

use bytes::Bytes;

use self::pieces::Pieces;
use crate::page::Page;

/// A text format that Podmeter serves.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Format {
    /// Prometheus' text exposition format 0.0.4.
    Text004,
    /// `OpenMetrics` 1.0.0.
    OpenMetrics100,
}

impl Format {
    /// The value of `Content-Type`.
    #[must_use]
    pub fn content_type(self) -> &'static str {
        match self {
            Self::Text004 => "text/plain; version=0.0.4; charset=utf-8",
            Self::OpenMetrics100 => "application/openmetrics-text; version=1.0.0; charset=utf-8",
        }
    }
}

/// About what one of Podmeter's own series takes; a guess that is short costs a copy, one that is long costs memory for
/// one scrape.
const SERIES_SIZE_BYTES: usize = 160;

/// The page as one text.
#[must_use]
pub fn encode(page: &Page, format: Format) -> Vec<u8> {
    encode_pieces(page, format).concat()
}

/// The page in pieces, to be sent one after the other; long stretches of targets' lines are not copied.
#[must_use]
pub fn encode_pieces(page: &Page, format: Format) -> Vec<Bytes> {
    let n_own: usize = page.families().iter().map(|family| family.series.len()).sum();
    let mut pieces = Pieces::with_capacity(n_own.saturating_mul(SERIES_SIZE_BYTES));
    for family in page.merged_families() {
        let style = match format {
            Format::Text004 => {
                text::write_metadata(&mut pieces.out, &family.meta);
                text::STYLE
            }
            Format::OpenMetrics100 if openmetrics::is_creation_time(&family.meta, page) => continue,
            Format::OpenMetrics100 => {
                openmetrics::write_metadata(&mut pieces.out, &family.meta, page);
                openmetrics::STYLE
            }
        };
        if let Some(own) = family.own.and_then(|idx| page.families().get(idx)) {
            series::write_family(&mut pieces.out, own, style);
        }
        for part in &family.parts {
            relayed::write_part(&mut pieces, page, part, format);
        }
    }
    if format == Format::OpenMetrics100 {
        pieces.out.extend_from_slice(b"# EOF\n");
    }
    pieces.finish()
}

#[cfg(test)]
mod tests;
