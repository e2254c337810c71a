//! `OpenMetrics` 1.0.
//!
//! A counter's family is named without `_total`, its samples with it. A counter whose name lacks `_total` cannot be one
//! here, nor can one whose name without it is another family's; such a family is of type unknown. `_created` is not
//! written: it would have to stand between the samples of its metric, and Prometheus has no use for it.

use super::{number, series::NumberStyle};
use crate::{
    metric::FamilyType,
    page::{
        Page,
        relayed::FamilyMeta,
        spelling::{Quotes, write_escaped},
    },
};

/// How this format writes numbers.
pub(super) const STYLE: NumberStyle =
    NumberStyle { write_value: number::write_float, bound_text: number::canonical_bound_text };

/// Writes what stands before the samples of a family.
pub(super) fn write_metadata(out: &mut Vec<u8>, meta: &FamilyMeta, page: &Page) {
    let (name, kind) = name_and_type(meta, page);
    write_keyword(out, "TYPE", name);
    out.extend_from_slice(kind.as_bytes());
    out.push(b'\n');
    if has_unit(name, &meta.unit) {
        write_keyword(out, "UNIT", name);
        out.extend_from_slice(meta.unit.as_bytes());
        out.push(b'\n');
    }
    if !meta.help.is_empty() {
        write_keyword(out, "HELP", name);
        write_escaped(out, &meta.help, Quotes::Escaped);
        out.push(b'\n');
    }
}

/// Whether a family is the moments at which the series of another one were created.
pub(super) fn is_creation_time(meta: &FamilyMeta, page: &Page) -> bool {
    let Some(base) = meta.name.strip_suffix("_created") else {
        return false;
    };
    let is = |name: &str, types: &[FamilyType]| {
        find(page, name).is_some_and(|meta| types.contains(&meta.family_type))
    };
    is(base, &[FamilyType::Histogram, FamilyType::Summary])
        || is(&format!("{base}_total"), &[FamilyType::Counter])
}

fn name_and_type<'a>(meta: &'a FamilyMeta, page: &Page) -> (&'a str, &'static str) {
    let without = |suffix: &str| {
        let name = meta.name.strip_suffix(suffix).filter(|name| !name.is_empty())?;
        find(page, name).is_none().then_some(name)
    };
    match meta.family_type {
        FamilyType::Counter => match without("_total") {
            Some(name) => (name, "counter"),
            None => (&meta.name, "unknown"),
        },
        FamilyType::Info => match without("_info") {
            Some(name) => (name, "info"),
            None => (&meta.name, "gauge"),
        },
        FamilyType::Gauge => (&meta.name, "gauge"),
        FamilyType::Histogram => (&meta.name, "histogram"),
        FamilyType::Summary => (&meta.name, "summary"),
        FamilyType::StateSet => (&meta.name, "stateset"),
        FamilyType::Unknown => (&meta.name, "unknown"),
    }
}

fn find<'a>(page: &'a Page, name: &str) -> Option<&'a FamilyMeta> {
    let families = page.merged_families();
    let idx = families.binary_search_by(|family| (*family.meta.name).cmp(name)).ok()?;
    families.get(idx).map(|family| &*family.meta)
}

/// The unit must be the last word of the family's name, or the whole page is invalid.
fn has_unit(name: &str, unit: &str) -> bool {
    !unit.is_empty() && name.strip_suffix(unit).is_some_and(|rest| rest.ends_with('_'))
}

fn write_keyword(out: &mut Vec<u8>, what: &str, name: &str) {
    out.extend_from_slice(b"# ");
    out.extend_from_slice(what.as_bytes());
    out.push(b' ');
    out.extend_from_slice(name.as_bytes());
    out.push(b' ');
}
