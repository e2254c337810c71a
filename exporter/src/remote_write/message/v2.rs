//! `io.prometheus.write.v2.Request` of Remote-Write 2.0: texts once, and metadata with each series.

use std::{collections::HashMap, sync::Arc};

use super::{type_number, v1::write_sample, wire};
use crate::{
    page::relayed::FamilyMeta,
    remote_write::{
        series::Outgoing,
        symbols::{Symbol, Symbols},
    },
};

/// The fields of `Request`.
const SYMBOLS: u64 = 4;
const TIMESERIES: u64 = 5;

/// A message that is being made.
#[derive(Debug, Default)]
pub(in crate::remote_write) struct Request {
    /// The field `symbols` without the first one, which is empty.
    table: Vec<u8>,
    n_symbols: u64,
    /// Where in the table symbols stand.
    refs: HashMap<Symbol, u64>,
    texts: HashMap<String, u64>,
    /// The family of the last series, and its metadata.
    family: Option<(Arc<FamilyMeta>, Vec<u8>)>,
    timeseries: Vec<u8>,
    inner: Vec<u8>,
    packed: Vec<u8>,
}

impl Request {
    /// Symbols may mean other texts from now on.
    pub(super) fn forget_symbols(&mut self) {
        self.refs.clear();
    }

    pub(super) fn push(&mut self, symbols: &Symbols, sample: &Outgoing<'_>) {
        self.describe(sample.family);
        let Self { table, n_symbols, refs, timeseries, inner, packed, .. } = self;
        packed.clear();
        for (name, value) in sample.labels {
            for symbol in [name, value] {
                let number = *refs.entry(*symbol).or_insert_with(|| {
                    *n_symbols += 1;
                    wire::bytes(table, SYMBOLS, symbols.text(*symbol).as_bytes());
                    *n_symbols
                });
                wire::varint(packed, number);
            }
        }
        inner.clear();
        wire::bytes(inner, 1, packed);
        write_sample(inner, sample);
        if let (Some((_, metadata)), Some(_)) = (&self.family, sample.family) {
            wire::bytes(inner, 5, metadata);
        }
        wire::bytes(timeseries, TIMESERIES, inner);
    }

    pub(super) fn finish(self) -> Vec<u8> {
        let mut out = Vec::with_capacity(2 + self.table.len() + self.timeseries.len());
        // The first symbol is empty, so that 0 refers to nothing.
        wire::bytes(&mut out, SYMBOLS, b"");
        out.extend_from_slice(&self.table);
        out.extend_from_slice(&self.timeseries);
        out
    }

    /// Writes the metadata of a family, if it is not the last one's.
    fn describe(&mut self, family: Option<&Arc<FamilyMeta>>) {
        let Some(family) = family else {
            return;
        };
        if self.family.as_ref().is_some_and(|(known, _)| Arc::ptr_eq(known, family)) {
            return;
        }
        let (help, unit) = (self.text(&family.help), self.text(&family.unit));
        let mut metadata = Vec::new();
        wire::number(&mut metadata, 1, type_number(family.family_type));
        wire::number(&mut metadata, 3, help);
        wire::number(&mut metadata, 4, unit);
        self.family = Some((Arc::clone(family), metadata));
    }

    /// The number of a text that is no label's.
    fn text(&mut self, text: &str) -> u64 {
        if text.is_empty() {
            return 0;
        }
        if let Some(number) = self.texts.get(text) {
            return *number;
        }
        self.n_symbols += 1;
        wire::bytes(&mut self.table, SYMBOLS, text.as_bytes());
        self.texts.insert(text.to_owned(), self.n_symbols);
        self.n_symbols
    }
}
