//! Lines of both formats by eye, and arbitrary bytes.

use std::fmt::Write as _;

use expect_test::{Expect, expect};
use proptest::prelude::{any, prop, prop_assert, prop_assert_eq, proptest};

use super::{Dialect, Line, Reader, parse_series};

/// What the reader makes of a page, one line each.
fn readings(page: &[u8], dialect: Dialect) -> String {
    let mut out = String::new();
    let mut reader = Reader::new(page, dialect);
    while let Some(line) = reader.next_line() {
        let number = reader.line_number();
        match line {
            Err(error) => writeln!(out, "{error}"),
            Ok(Line::Sample { series, tail }) => {
                let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
                let timestamp = tail.timestamp.map_or_else(String::new, text);
                let exemplar = tail.exemplar.map_or_else(String::new, text);
                let value = text(tail.value);
                let parts = parse_series(series).map(|parts| {
                    let form = if parts.is_canonical { "" } else { " (rewritten)" };
                    format!("{} {:?}{form}", parts.name, parts.labels)
                });
                let parts = parts.unwrap_or_else(|(column, fault)| format!("{column}: {fault}"));
                writeln!(out, "{number} {parts} = {value} @{timestamp} {exemplar}")
            }
            Ok(other) => writeln!(out, "{number} {other:?}"),
        }
        .expect("a string takes all");
    }
    out
}

fn check(dialect: Dialect, page: &str, expected: &Expect) {
    expected.assert_eq(&readings(page.as_bytes(), dialect));
}

#[test]
fn text_004() {
    check(
        Dialect::Text,
        concat!(
            "# HELP a A \\\\ \\n \\\" help.\n# TYPE a counter\n#TYPE b untyped\n# a comment\n\n",
            "a 1\na{} 2\n a { x = \"y\" , z=\"\", } +Inf \t 12\t\r\n",
            "a{x=\"}\",y=\",\",z=\"\\n\\\"\\\\\"} .5 -7\na{x=\"\\d\"}1e5\n",
            "{\"my.metric\",\"a.b\"=\"c\"} nan\na{x=\"€\"} -infinity"
        ),
        &expect![[r#"
            1 Help { family: "a", text: "A \\ \n \\\" help." }
            2 Type { family: "a", family_type: Counter }
            3 Type { family: "b", family_type: Unknown }
            6 a [] = 1 @ 
            7 a [] (rewritten) = 2 @ 
            8 a [("x", "y"), ("z", "")] (rewritten) = +Inf @12 
            9 a [("x", "}"), ("y", ","), ("z", "\n\"\\")] = .5 @-7 
            10 a [("x", "\\d")] (rewritten) = 1e5 @ 
            11 my.metric [("a.b", "c")] (rewritten) = NaN @ 
            12 a [("x", "€")] = -Inf @ 
        "#]],
    );
}

#[test]
fn openmetrics_100() {
    check(
        Dialect::OpenMetrics,
        concat!(
            "# TYPE a_seconds histogram\n# UNIT a_seconds seconds\n# HELP a_seconds A \\\"help\\\".\n",
            "a_seconds_bucket{le=\"1.0\"} 3 # {trace_id=\"x}\"} 0.5 1795348134.887\n",
            "a_seconds_sum 1.5 1795348134.887\na_seconds_count 3 1.5e9 # {} 1\n",
            "# TYPE b info\n# TYPE \"c.d\" stateset\n# EOF\n"
        ),
        &expect![[r#"
            1 Type { family: "a_seconds", family_type: Histogram }
            2 Unit { family: "a_seconds", unit: "seconds" }
            3 Help { family: "a_seconds", text: "A \"help\"." }
            4 a_seconds_bucket [("le", "1.0")] = 3 @ {trace_id="x}"} 0.5 1795348134.887
            5 a_seconds_sum [] = 1.5 @1795348134.887 
            6 a_seconds_count [] = 3 @1.5e9 {} 1
            7 Type { family: "b", family_type: Info }
            8 Type { family: "c.d", family_type: StateSet }
            9 Eof
        "#]],
    );
}

#[test]
fn what_is_wrong_and_where() {
    check(
        Dialect::Text,
        concat!(
            "1a 1\na\na{\na{b\na{b=\na{b=c} 1\na{b=\"c} 1\na{b=\"c\" d=\"e\"} 1\na{1=\"c\"} 1\n",
            "a{b=\"c\",b=\"d\"} 1\na{__name__=\"c\"} 1\na 1_2\na 0x1p-3\na true\na 1 1.5\na 1 2 3\n",
            "a 1 # {} 1\na\u{e9} 1\n# TYPE a strange\n# TYPE\n# HELP a\n# TYPE 1 gauge\n{} 1\n+ 1\n"
        ),
        &expect![[r#"
            line 1, column 1: a metric name was expected
            line 2, column 2: a value was expected, a decimal number, NaN or Inf
            line 3, column 3: the labels do not end
            line 4, column 4: the labels do not end
            line 5, column 5: the labels do not end
            6 5: a quoted label value was expected = 1 @ 
            line 7, column 10: a quoted text does not end
            8 9: `,` or `}` was expected after a label = 1 @ 
            9 3: a label name was expected = 1 @ 
            10 9: a label name stands here for the second time = 1 @ 
            11 3: a label name stands here for the second time = 1 @ 
            line 12, column 3: a value was expected, a decimal number, NaN or Inf
            line 13, column 3: a value was expected, a decimal number, NaN or Inf
            line 14, column 3: a value was expected, a decimal number, NaN or Inf
            line 15, column 5: a timestamp was expected
            line 16, column 7: the sample should end here
            line 17, column 5: the sample should end here
            line 18, column 2: a metric name was expected
            line 19, column 10: a type was expected: counter, gauge, histogram, summary or untyped
            21 Help { family: "a", text: "" }
            line 22, column 8: a metric name was expected
            23 1: a metric name was expected = 1 @ 
            line 24, column 1: a metric name was expected
        "#]],
    );
    check(
        Dialect::OpenMetrics,
        "a 1 # x\na 1 # {a=\"b\"}\na 1 # {a} 1\na 1 x\n# TYPE a info\n# EOF\na 1\nb 2\n",
        &expect![[r#"
            line 1, column 7: an exemplar was expected, labels and a value
            line 2, column 14: an exemplar was expected, labels and a value
            line 3, column 7: an exemplar was expected, labels and a value
            line 4, column 5: a timestamp was expected
            5 Type { family: "a", family_type: Info }
            6 Eof
            line 7, column 1: there is more after `# EOF`
        "#]],
    );
}

#[test]
fn bytes_that_are_not_utf8() {
    let read = |page| readings(page, Dialect::Text);
    assert_eq!(read(b"a{b=\"\xff\"} 1\n"), "1 6: the text is not UTF-8 = 1 @ \n");
    assert_eq!(read(b"# HELP a \xff\n"), "line 1, column 10: the text is not UTF-8\n");
    assert_eq!(read(b"\xff\x00 1\n"), "line 1, column 1: a metric name was expected\n");
}

#[test]
fn a_known_series_is_taken_by_its_bytes_alone() {
    let take = |page: &'static str, series: &str| {
        let mut reader = Reader::new(page.as_bytes(), Dialect::Text);
        let taken = reader.take_sample_of(series.as_bytes());
        (taken.map(|tail| tail.value), reader.line_number())
    };
    assert_eq!(take("a{b=\"c\"} 1\n", "a{b=\"c\"}"), (Some(&b"1"[..]), 1));
    // A longer name, labels after a blank, and a value that is none are not what was meant.
    assert_eq!(take("ab 1\n", "a"), (None, 0));
    assert_eq!(take("a {b=\"c\"} 1\n", "a"), (None, 0));
    assert_eq!(take("a x\n", "a"), (None, 0));
}

#[test]
fn content_types() {
    let check = |content_type, expected| {
        assert_eq!(Dialect::of_content_type(content_type), expected, "{content_type}");
    };
    check("text/plain; version=0.0.4; charset=utf-8; escaping=underscores", Some(Dialect::Text));
    check("Text/Plain", Some(Dialect::Text));
    check("application/openmetrics-text;version=1.0.0", Some(Dialect::OpenMetrics));
    check("text/html", None);
    check("", None);
}

/// Pieces that pages are made of, so that random pages get past the first byte.
const PIECES: &[&str] = &[
    "# HELP ", "# TYPE ", "# UNIT ", "# EOF", "# ", "a", "b_total", " ", "\t", "{", "}", "=", "\"",
    "\\", ",", "\n", "\r\n", "1", ".5", "e", "-", "NaN", "+Inf", "counter", "€", "\u{0}",
];

proptest! {
    #[test]
    fn no_bytes_are_too_strange(
        page in prop::collection::vec(any::<u8>(), 0..300),
        pieces in prop::collection::vec(prop::sample::select(PIECES), 0..60),
    ) {
        for page in [page, pieces.concat().into_bytes()] {
            for dialect in [Dialect::Text, Dialect::OpenMetrics] {
                let mut reader = Reader::new(&page, dialect);
                let mut last = 0;
                while let Some(line) = reader.next_line() {
                    prop_assert!(reader.line_number() > last);
                    last = reader.line_number();
                    match line {
                        Ok(Line::Sample { series, tail }) => {
                            let value = std::str::from_utf8(tail.value).expect("a number is ASCII");
                            prop_assert!(value.parse::<f64>().is_ok(), "{value}");
                            if let Err((column, _)) = parse_series(series) {
                                prop_assert!(column <= series.len() + 1);
                            }
                        }
                        Ok(_) => {}
                        Err(error) => {
                            let line = page.split(|byte| *byte == b'\n').nth(error.line - 1);
                            prop_assert!(error.column <= line.unwrap_or_default().len() + 1);
                        }
                    }
                }
            }
        }
    }

    #[test]
    fn whatever_a_label_says_is_read_back(values in prop::collection::vec(".*", 1..5)) {
        let escape = |value: &String| {
            value.replace('\\', r"\\").replace('"', "\\\"").replace('\n', r"\n")
        };
        let labels: Vec<_> = values
            .iter()
            .enumerate()
            .map(|(idx, value)| format!("l{idx}=\"{}\"", escape(value)))
            .collect();
        let page = format!("m{{{}}} 1 2\n", labels.join(","));
        let mut reader = Reader::new(page.as_bytes(), Dialect::Text);
        let Some(Ok(Line::Sample { series, .. })) = reader.next_line() else { panic!("{page}") };
        let parts = parse_series(series).expect("it is one");
        prop_assert!(parts.is_canonical);
        let read: Vec<_> = parts.labels.iter().map(|(_, value)| value.as_ref()).collect();
        prop_assert_eq!(read, values);
    }
}
