//! Random pages, merged: whatever meets, the page is valid and every series is accounted for.

use std::collections::HashSet;

use proptest::prelude::{prop, prop_assert_eq, proptest};

use super::{merged, own};
use crate::{
    encode::{Format, encode},
    source::upstream::exposition::{Dialect, Line, Reader},
};

/// Pieces of pages whose families meet in every way.
const PIECES: &[&str] = &[
    "# TYPE h histogram\n",
    "# TYPE h gauge\n",
    "# TYPE h_sum counter\n",
    "# TYPE own_seconds summary\n",
    "# HELP h A.\n",
    "# HELP h B.\n",
    "h_bucket{le=\"1\"} 1\n",
    "h_sum 1 5\n",
    "h_count 1\n",
    "h 1\n",
    "h{b=\"c\"} 2 7\n",
    "own_seconds_sum 1\n",
    "own_seconds{quantile=\"1\"} 1\n",
    "process_cpu_seconds_total 1\n",
    "x_total 1\n",
    "x 1\n",
    "x_created 1\n",
];

proptest! {
    #[test]
    fn whatever_meets_is_one_valid_page(
        first in prop::collection::vec(prop::sample::select(PIECES), 0..15),
        second in prop::collection::vec(prop::sample::select(PIECES), 0..15),
    ) {
        for jobs in [["a", "b"], ["a", "a"], ["", ""]] {
            let own = own();
            let n_own: usize = own.iter().map(|family| family.series.len()).sum();
            let alone = |page: &str| merged(["", ""], [page, ""], Vec::new()).n_series();
            let (first, second) = (first.concat(), second.concat());
            let n_given = n_own + alone(&first) + alone(&second);
            let page = merged(jobs, [&first, &second], own);
            prop_assert_eq!(page.n_series() + page.n_settled(), n_given);
            for format in [Format::Text004, Format::OpenMetrics100] {
                check_valid(&encode(&page, format), format);
            }
        }
    }
}

/// Each family once, all its samples behind its metadata, no series twice.
fn check_valid(page: &[u8], format: Format) {
    let dialect = match format {
        Format::Text004 => Dialect::Text,
        Format::OpenMetrics100 => Dialect::OpenMetrics,
    };
    let mut reader = Reader::new(page, dialect);
    let (mut series_seen, mut typed) = (HashSet::new(), HashSet::new());
    let mut current = String::new();
    while let Some(line) = reader.next_line() {
        match line.expect("every line is one") {
            Line::Type { family, .. } => {
                assert!(typed.insert(family.clone().into_owned()), "{family} has a type twice");
                current = family.into_owned();
            }
            Line::Help { family, .. } => {
                // Text 0.0.4 has the help first, OpenMetrics the type.
                assert!(
                    dialect == Dialect::Text || current == family,
                    "{family} has a help elsewhere"
                );
            }
            Line::Sample { series, .. } => {
                let series = std::str::from_utf8(series).expect("a series is UTF-8");
                assert!(series_seen.insert(series.to_owned()), "{series} stands twice");
                assert!(series.starts_with(&current), "{series} is not of {current}");
            }
            Line::Unit { .. } | Line::Eof => {}
        }
    }
}
