//! `prometheus.WriteRequest` of Remote-Write 1.0, with the metadata that Prometheus sends in it.

use super::{type_number, wire};
use crate::{
    page::relayed::FamilyMeta,
    remote_write::{series::Outgoing, symbols::Symbols},
};

/// The fields of `WriteRequest`.
const TIMESERIES: u64 = 1;
const METADATA: u64 = 3;

/// A message that is being made.
#[derive(Debug, Default)]
pub(in crate::remote_write) struct WriteRequest {
    out: Vec<u8>,
    /// The message inside that is being made.
    inner: Vec<u8>,
}

impl WriteRequest {
    pub(super) fn push(&mut self, symbols: &Symbols, sample: &Outgoing<'_>) {
        let Self { out, inner } = self;
        inner.clear();
        for (name, value) in sample.labels {
            let (name, value) = (symbols.text(*name).as_bytes(), symbols.text(*value).as_bytes());
            wire::length(inner, 1, wire::bytes_len(name.len()) + wire::bytes_len(value.len()));
            wire::bytes(inner, 1, name);
            wire::bytes(inner, 2, value);
        }
        write_sample(inner, sample);
        wire::bytes(out, TIMESERIES, inner);
    }

    pub(super) fn push_metadata(&mut self, family: &FamilyMeta) {
        let Self { out, inner } = self;
        inner.clear();
        wire::number(inner, 1, type_number(family.family_type));
        wire::bytes(inner, 2, family.name.as_bytes());
        wire::bytes(inner, 4, family.help.as_bytes());
        wire::bytes(inner, 5, family.unit.as_bytes());
        wire::bytes(out, METADATA, inner);
    }

    pub(super) fn finish(self) -> Vec<u8> {
        self.out
    }
}

/// Writes the field `samples` of a `TimeSeries`, which is the same in both protocols.
pub(super) fn write_sample(out: &mut Vec<u8>, sample: &Outgoing<'_>) {
    let timestamp = u64::from_ne_bytes(sample.timestamp.to_ne_bytes());
    // A tag and eight bytes, and a tag and the time.
    wire::length(out, 2, 9 + 1 + wire::varint_len(timestamp));
    wire::double(out, 1, sample.value);
    wire::signed(out, 2, sample.timestamp);
}
