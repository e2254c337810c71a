//! The samples of a page as they stand in text 0.0.4, with the family of each, so that what is pushed is what `/metrics`
//! shows. Pure.

use std::{str, sync::Arc};

use super::instants::Milliseconds;
use crate::{
    encode::{Format, encode_pieces},
    page::{Page, relayed::FamilyMeta},
    source::upstream::exposition::{Dialect, Line, Place, Reader},
};

/// One sample of a page.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct PageSample<'a> {
    /// The series as it stands, `name{labels}`.
    pub(super) series: &'a [u8],
    /// Its value.
    pub(super) value: f64,
    /// When it is of, if it says so.
    pub(super) timestamp: Option<Milliseconds>,
    /// Its family.
    pub(super) family: Option<&'a Arc<FamilyMeta>>,
}

/// Gives each sample of the page, in its order; returns how many lines are none, which should be none at all.
pub(super) fn for_each(page: &Page, mut sample: impl FnMut(PageSample<'_>)) -> usize {
    let mut families = page.merged_families().iter();
    let mut current = None;
    let mut n_bad = 0;
    // Each piece is whole lines.
    let mut place = Place::default();
    for piece in encode_pieces(page, Format::Text004) {
        let mut reader = Reader::resume(&piece, Dialect::Text, place);
        while let Some(line) = reader.next_line() {
            match line {
                Ok(Line::Sample { series, tail }) => {
                    let Some(value) = number(tail.value) else {
                        n_bad += 1;
                        continue;
                    };
                    let timestamp = tail.timestamp.and_then(|text| str::from_utf8(text).ok());
                    let timestamp = timestamp.and_then(|text| text.parse().ok());
                    sample(PageSample { series, value, timestamp, family: current });
                }
                Ok(Line::Type { family, .. }) => {
                    // They come in the same order.
                    let found = families.by_ref().find(|known| *known.meta.name == *family);
                    current = found.map(|known| &known.meta);
                }
                Ok(Line::Help { .. } | Line::Unit { .. } | Line::Eof) => {}
                Err(_fault) => n_bad += 1,
            }
        }
        place = reader.place();
    }
    n_bad
}

/// A number as the reader has checked it.
fn number(text: &[u8]) -> Option<f64> {
    str::from_utf8(text).ok()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::{for_each, number};
    use crate::{
        metric::{Desc, Histogram, Kind, Value},
        page::{Labels, Page, PageFamily, Series},
    };

    const fn desc(name: &'static str, kind: Kind) -> Desc {
        Desc { name, help: "H.", kind, unit: "", labels: &[], origin: "" }
    }

    static GAUGE: Desc = desc("g", Kind::Gauge);
    static HISTOGRAM: Desc = desc("h", Kind::Histogram);

    #[test]
    fn each_line_is_a_sample_of_its_family() {
        let labels = || Labels::new([("a", "b\"c")]).unwrap();
        let histogram = Histogram { bounds: &[1.0], buckets: vec![1, 2], sum: 3.5 };
        let page = Page::new(vec![
            PageFamily {
                desc: &HISTOGRAM,
                series: vec![Series { labels: labels(), value: Value::Histogram(histogram) }],
            },
            PageFamily {
                desc: &GAUGE,
                series: vec![Series { labels: labels(), value: Value::Number(0.1 + 0.2) }],
            },
        ]);
        let mut seen = Vec::new();
        let n_bad = for_each(&page, |sample| {
            let series = String::from_utf8(sample.series.to_vec()).unwrap();
            assert_eq!(sample.timestamp, None);
            seen.push((series, sample.value, sample.family.unwrap().name.to_string()));
        });
        assert_eq!(n_bad, 0);
        let expected = [
            ("g{a=\"b\\\"c\"}", 0.1 + 0.2, "g"),
            ("h_bucket{a=\"b\\\"c\",le=\"1\"}", 1.0, "h"),
            ("h_bucket{a=\"b\\\"c\",le=\"+Inf\"}", 3.0, "h"),
            ("h_sum{a=\"b\\\"c\"}", 3.5, "h"),
            ("h_count{a=\"b\\\"c\"}", 3.0, "h"),
        ];
        let expected =
            expected.map(|(series, value, family)| (series.into(), value, family.into()));
        assert_eq!(seen, expected);
    }

    #[test]
    fn numbers_are_those_of_the_page() {
        for (text, expected) in [
            ("1", 1.0),
            ("+Inf", f64::INFINITY),
            ("-Inf", f64::NEG_INFINITY),
            (".5", 0.5),
            ("5.", 5.0),
            ("1e-09", 1e-9),
        ] {
            assert_eq!(number(text.as_bytes()), Some(expected), "{text}");
        }
        assert!(number(b"NaN").unwrap().is_nan());
    }
}
