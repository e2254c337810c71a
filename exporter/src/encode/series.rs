//! The lines of series, which both text formats share but for the form of their numbers.

use super::number;
use crate::{
    metric::{Histogram, Value},
    page::{
        Labels, PageFamily,
        spelling::{Quotes, write_escaped},
    },
};

/// How one format writes numbers.
#[derive(Clone, Copy)]
pub(super) struct NumberStyle {
    /// The value of a sample that is not a count.
    pub(super) write_value: fn(&mut Vec<u8>, f64),
    /// The value of `le`.
    pub(super) bound_text: fn(f64) -> String,
}

/// Writes all lines of a family but those that begin with `#`.
pub(super) fn write_family(out: &mut Vec<u8>, family: &PageFamily, style: NumberStyle) {
    let name = family.desc.name;
    let mut bounds = BoundTexts::default();
    for series in &family.series {
        match &series.value {
            Value::Number(value) => {
                write_name(out, name, "", &series.labels, None);
                (style.write_value)(out, *value);
                out.push(b'\n');
            }
            Value::Histogram(histogram) => {
                bounds.cover(histogram.bounds, style);
                write_histogram(out, name, &series.labels, histogram, &bounds, style);
            }
        }
    }
}

/// The text of each bound, made once for the many series of a family that share them.
#[derive(Default)]
struct BoundTexts {
    bounds: &'static [f64],
    texts: Vec<String>,
}

impl BoundTexts {
    fn cover(&mut self, bounds: &'static [f64], style: NumberStyle) {
        if self.bounds != bounds {
            self.bounds = bounds;
            self.texts = bounds.iter().map(|bound| (style.bound_text)(*bound)).collect();
        }
    }
}

fn write_histogram(
    out: &mut Vec<u8>,
    name: &str,
    labels: &Labels,
    histogram: &Histogram,
    bounds: &BoundTexts,
    style: NumberStyle,
) {
    let mut count: u64 = 0;
    let texts = bounds.texts.iter().map(String::as_str).chain(["+Inf"]);
    for (text, bucket) in texts.zip(&histogram.buckets) {
        count = count.saturating_add(*bucket);
        write_name(out, name, "_bucket", labels, Some(text));
        number::write_count(out, count);
        out.push(b'\n');
    }
    write_name(out, name, "_sum", labels, None);
    (style.write_value)(out, histogram.sum);
    out.push(b'\n');
    write_name(out, name, "_count", labels, None);
    number::write_count(out, count);
    out.push(b'\n');
}

/// Writes `name{labels} `, up to where the number goes.
fn write_name(out: &mut Vec<u8>, name: &str, suffix: &str, labels: &Labels, bound: Option<&str>) {
    out.extend_from_slice(name.as_bytes());
    out.extend_from_slice(suffix.as_bytes());
    let mut separator = b'{';
    for (name, value) in labels.iter().chain(bound.map(|bound| ("le", bound))) {
        out.push(separator);
        separator = b',';
        out.extend_from_slice(name.as_bytes());
        out.extend_from_slice(b"=\"");
        write_escaped(out, value, Quotes::Escaped);
        out.push(b'"');
    }
    if separator == b',' {
        out.push(b'}');
    }
    out.push(b' ');
}
