//! `OpenMetrics` 1.0.
//!
//! A counter's family is named without `_total`, its samples with it. A counter whose name lacks `_total` cannot be one
//! here, so its family is of type unknown. `_created` is not written: Prometheus has no use for it.

use super::{
    number,
    series::{self, NumberStyle},
};
use crate::{
    metric::{Desc, Kind},
    page::{
        Page,
        spelling::{Quotes, write_escaped},
    },
};

const STYLE: NumberStyle =
    NumberStyle { write_value: number::write_float, bound_text: number::canonical_bound_text };

/// Writes the page with its end mark.
pub(super) fn write_page(out: &mut Vec<u8>, page: &Page) {
    for family in page.families() {
        let desc = family.desc;
        let (name, kind) = name_and_type(desc);
        write_metadata(out, "TYPE", name);
        out.extend_from_slice(kind.as_bytes());
        out.push(b'\n');
        if has_unit(name, desc.unit) {
            write_metadata(out, "UNIT", name);
            out.extend_from_slice(desc.unit.as_bytes());
            out.push(b'\n');
        }
        write_metadata(out, "HELP", name);
        write_escaped(out, desc.help, Quotes::Escaped);
        out.push(b'\n');
        series::write_family(out, family, STYLE);
    }
    out.extend_from_slice(b"# EOF\n");
}

fn name_and_type(desc: &Desc) -> (&'static str, &'static str) {
    match (desc.kind, desc.name.strip_suffix("_total")) {
        (Kind::Counter, Some(name)) if !name.is_empty() => (name, desc.kind.as_str()),
        (Kind::Counter, _) => (desc.name, "unknown"),
        (Kind::Gauge | Kind::Histogram, _) => (desc.name, desc.kind.as_str()),
    }
}

/// The unit must be the last word of the family's name, or the whole page is invalid.
fn has_unit(name: &str, unit: &str) -> bool {
    !unit.is_empty() && name.strip_suffix(unit).is_some_and(|rest| rest.ends_with('_'))
}

fn write_metadata(out: &mut Vec<u8>, what: &str, name: &str) {
    out.extend_from_slice(b"# ");
    out.extend_from_slice(what.as_bytes());
    out.push(b' ');
    out.extend_from_slice(name.as_bytes());
    out.push(b' ');
}
