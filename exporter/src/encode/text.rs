//! Prometheus' text exposition format 0.0.4.

use super::{number, series::NumberStyle};
use crate::{
    metric::FamilyType,
    page::{
        relayed::FamilyMeta,
        spelling::{Quotes, write_escaped},
    },
};

/// How this format writes numbers.
pub(super) const STYLE: NumberStyle =
    NumberStyle { write_value: number::write_short, bound_text: number::bound_text };

/// Writes what stands before the samples of a family.
pub(super) fn write_metadata(out: &mut Vec<u8>, meta: &FamilyMeta) {
    let name = meta.name.as_bytes();
    if !meta.help.is_empty() {
        out.extend_from_slice(b"# HELP ");
        out.extend_from_slice(name);
        out.push(b' ');
        write_escaped(out, &meta.help, Quotes::Plain);
        out.push(b'\n');
    }
    out.extend_from_slice(b"# TYPE ");
    out.extend_from_slice(name);
    out.push(b' ');
    out.extend_from_slice(type_word(meta.family_type).as_bytes());
    out.push(b'\n');
}

/// What only `OpenMetrics` knows is what its samples are: numbers.
fn type_word(family_type: FamilyType) -> &'static str {
    match family_type {
        FamilyType::Counter => "counter",
        FamilyType::Gauge | FamilyType::Info | FamilyType::StateSet => "gauge",
        FamilyType::Histogram => "histogram",
        FamilyType::Summary => "summary",
        FamilyType::Unknown => "untyped",
    }
}
