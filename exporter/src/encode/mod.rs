//! A page as bytes, and which format and compression a client wants. Pure: no IO, no clock.
//!
//! The formats: <https://prometheus.io/docs/instrumenting/exposition_formats/> (text 0.0.4) and
//! <https://prometheus.io/docs/specs/om/open_metrics_spec/> (`OpenMetrics` 1.0).

pub mod accept;
mod number;
mod openmetrics;
mod series;
mod text;

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

/// About what one series takes; a guess that is short costs a copy, one that is long costs memory for one scrape.
const SERIES_SIZE_BYTES: usize = 160;

/// Writes the page.
#[must_use]
pub fn encode(page: &Page, format: Format) -> Vec<u8> {
    let mut out = Vec::with_capacity(page.n_series().saturating_mul(SERIES_SIZE_BYTES));
    match format {
        Format::Text004 => text::write_page(&mut out, page),
        Format::OpenMetrics100 => openmetrics::write_page(&mut out, page),
    }
    out
}

#[cfg(test)]
mod tests;
