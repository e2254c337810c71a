//! Prometheus' text exposition format 0.0.4.

use super::{
    number,
    series::{self, NumberStyle},
};
use crate::page::{
    Page,
    spelling::{Quotes, write_escaped},
};

const STYLE: NumberStyle =
    NumberStyle { write_value: number::write_short, bound_text: number::bound_text };

/// Writes the page.
pub(super) fn write_page(out: &mut Vec<u8>, page: &Page) {
    for family in page.families() {
        let desc = family.desc;
        out.extend_from_slice(b"# HELP ");
        out.extend_from_slice(desc.name.as_bytes());
        out.push(b' ');
        write_escaped(out, desc.help, Quotes::Plain);
        out.extend_from_slice(b"\n# TYPE ");
        out.extend_from_slice(desc.name.as_bytes());
        out.push(b' ');
        out.extend_from_slice(desc.kind.as_str().as_bytes());
        out.push(b'\n');
        series::write_family(out, family, STYLE);
    }
}
