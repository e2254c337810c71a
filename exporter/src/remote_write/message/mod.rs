//! Requests: samples as one of the two protobuf messages. Pure.

mod v1;
mod v2;
mod wire;

use super::{series::Outgoing, symbols::Symbols};
use crate::{config::remote_write::MessageKind, metric::FamilyType, page::relayed::FamilyMeta};

/// A message that is being made.
#[derive(Debug)]
pub(super) enum Message {
    /// Of 1.0.
    WriteRequest(v1::WriteRequest),
    /// Of 2.0.
    Request(v2::Request),
}

impl Message {
    /// An empty one.
    pub(super) fn new(kind: MessageKind) -> Self {
        match kind {
            MessageKind::WriteRequest => Self::WriteRequest(v1::WriteRequest::default()),
            MessageKind::Request => Self::Request(v2::Request::default()),
        }
    }

    /// What comes now is of another page, whose symbols may mean other texts.
    pub(super) fn begin_page(&mut self) {
        match self {
            Self::WriteRequest(_) => {}
            Self::Request(message) => message.forget_symbols(),
        }
    }

    /// Adds a sample.
    pub(super) fn push(&mut self, symbols: &Symbols, sample: &Outgoing<'_>) {
        match self {
            Self::WriteRequest(message) => message.push(symbols, sample),
            Self::Request(message) => message.push(symbols, sample),
        }
    }

    /// Adds what is known of a family; 2.0 has it with each series already.
    pub(super) fn push_metadata(&mut self, family: &FamilyMeta) {
        match self {
            Self::WriteRequest(message) => message.push_metadata(family),
            Self::Request(_) => {}
        }
    }

    /// The bytes, not compressed.
    pub(super) fn finish(self) -> Vec<u8> {
        match self {
            Self::WriteRequest(message) => message.finish(),
            Self::Request(message) => message.finish(),
        }
    }
}

/// The number that both messages have for a type.
fn type_number(family_type: FamilyType) -> u64 {
    match family_type {
        FamilyType::Unknown => 0,
        FamilyType::Counter => 1,
        FamilyType::Gauge => 2,
        FamilyType::Histogram => 3,
        FamilyType::Summary => 5,
        FamilyType::Info => 6,
        FamilyType::StateSet => 7,
    }
}

#[cfg(test)]
mod tests;
