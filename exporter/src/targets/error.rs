//! Why a target gave nothing.

use crate::{labelling::relay::RelayError, source::upstream::client::error::FetchError};

/// Why a scrape of a target gave nothing.
#[derive(Debug, thiserror::Error)]
pub enum TargetError {
    /// No page came.
    #[error(transparent)]
    Fetch(#[from] FetchError),
    /// A page in no format that is known.
    #[error(
        "the page has the Content-Type {content_type}, which is neither text/plain nor OpenMetrics"
    )]
    ContentType {
        /// What it has.
        content_type: String,
    },
    /// A page in no format at all.
    #[error("the page has no Content-Type")]
    NoContentType,
    /// What came is no page, or too much.
    #[error(transparent)]
    Relay(#[from] RelayError),
    /// The scrape before this one is still at it.
    #[error("still busy with the scrape before")]
    Busy,
    /// The code panicked; that is a bug of Podmeter.
    #[error("a bug: it panicked, see the log")]
    Panicked,
}

impl TargetError {
    /// The value of a label: few words, for good.
    #[must_use]
    pub fn reason(&self) -> &'static str {
        match self {
            Self::Fetch(error) => error.reason(),
            Self::ContentType { .. } | Self::NoContentType => "content_type",
            Self::Relay(RelayError::NoMetrics(_)) => "no_metrics",
            Self::Relay(RelayError::NoEof) => "no_eof",
            Self::Relay(RelayError::SampleLimit { .. }) => "sample_limit",
            Self::Relay(RelayError::LabelLimit { .. }) => "label_limit",
            Self::Relay(RelayError::TooLarge) => "too_large",
            Self::Busy => "busy",
            Self::Panicked => "panicked",
        }
    }
}
