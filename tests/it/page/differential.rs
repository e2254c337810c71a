//! Pages through the relay, against other readers: what Python's `prometheus_client` reads of what was served is what it
//! reads of what was received, and Podmeter's own format stays as it is.

use std::{fs, path::Path, process::Command};

use podmeter::{
    encode::{Format, encode},
    labelling::relay::{NamedPods, Relay, Settings},
    page::{Page, relayed::SeriesHasher},
    source::upstream::exposition::Dialect,
};
use podmeter_tests::tools::{python, run_with_input, tool, write};
use proptest::{
    collection::{btree_map, vec},
    prelude::{Just, Strategy, any, prop_oneof},
    strategy::ValueTree as _,
    test_runner::TestRunner,
};

/// How many pages are made up.
const N_PAGES: usize = 200;

/// Compares, for each number in a folder, `<n>.received` with `<n>.text` and `<n>.openmetrics`.
const COMPARE: &str = "
import pathlib, sys
from prometheus_client.parser import text_string_to_metric_families as text
from prometheus_client.openmetrics.parser import text_string_to_metric_families as openmetrics

# The reader of the text adds _total to the counters that do not have it, and OpenMetrics writes whole bounds with a
# point: the two readers agree on neither.
def name(sample):
    return sample.name.removesuffix('_total')

def label(family, item):
    is_bound = (family.type, item[0]) in [('histogram', 'le'), ('summary', 'quantile')]
    return (item[0], repr(float(item[1]))) if is_bound else item

def samples(families):
    found = []
    for family in families:
        for sample in family.samples:
            time = None if sample.timestamp is None else round(float(sample.timestamp), 3)
            labels = sorted(label(family, item) for item in sample.labels.items())
            found.append((name(sample), labels, repr(float(sample.value)), repr(time)))
    return sorted(found)

def check(path, received, served):
    if received != served:
        lost = [sample for sample in received if sample not in served][:3]
        new = [sample for sample in served if sample not in received][:3]
        sys.exit(f'{path}: lost {lost}, new {new}\\n{path.read_text()}')

n_pages = n_samples = 0
for path in sorted(pathlib.Path(sys.argv[1]).glob('*.received')):
    received = samples(text(path.read_bytes().decode()))
    check(path, received, samples(text(path.with_suffix('.text').read_bytes().decode())))
    # Times of creation are not written there.
    wanted = [sample for sample in received if not sample[0].endswith('_created')]
    check(path, wanted, samples(openmetrics(path.with_suffix('.openmetrics').read_bytes().decode())))
    n_pages, n_samples = n_pages + 1, n_samples + len(received)
print(n_pages, 'pages', n_samples, 'samples')
";

/// What is served of a page that comes once.
fn served(page: &[u8], dialect: Dialect, format: Format) -> Vec<u8> {
    let hasher = SeriesHasher::default();
    let mut relay = Relay::new(Settings::default(), hasher.clone());
    let relayed = relay.relay(page, dialect, &NamedPods::default()).expect("the page is relayed");
    assert_eq!(relayed.first_fault, None, "{}", page.escape_ascii());
    encode(&Page::merged(Vec::new(), vec![relayed.page], &hasher), format)
}

/// A label's value, or a help text: whatever needs an escape, and what separates things elsewhere. It is not empty: a
/// label without a value is none.
fn text() -> impl Strategy<Value = String> {
    let char = prop_oneof![
        Just('"'),
        Just('\\'),
        Just('\n'),
        Just('}'),
        Just('{'),
        Just(','),
        Just('='),
        Just(' '),
        Just('#'),
        Just('ü'),
        Just('世'),
        (b'a'..=b'z').prop_map(char::from),
    ];
    vec(char, 1..8).prop_map(|chars| chars.into_iter().collect())
}

fn labels() -> impl Strategy<Value = Vec<(String, String)>> {
    btree_map("[a-d][a-z0-9_]{0,3}", text(), 0..4).prop_map(|labels| labels.into_iter().collect())
}

fn value() -> impl Strategy<Value = String> {
    let number = any::<f64>().prop_filter("a number", |number| number.is_finite());
    prop_oneof![
        number.prop_map(|number| number.to_string()),
        any::<i32>().prop_map(|number| number.to_string()),
        Just("NaN".to_owned()),
        Just("+Inf".to_owned()),
        Just("-Inf".to_owned()),
        Just("1.5e-07".to_owned()),
    ]
}

fn time() -> impl Strategy<Value = String> {
    prop_oneof![Just(String::new()), (0_i64..4_000_000_000_000).prop_map(|time| format!(" {time}"))]
}

fn braced(labels: &[(String, String)]) -> String {
    let label = |(name, value): &(String, String)| {
        let value = value.replace('\\', "\\\\").replace('"', "\\\"").replace('\n', "\\n");
        format!("{name}=\"{value}\"")
    };
    let labels: Vec<String> = labels.iter().map(label).collect();
    if labels.is_empty() { String::new() } else { format!("{{{}}}", labels.join(",")) }
}

/// One family in text 0.0.4, as Podmeter writes it.
fn family(number: usize) -> impl Strategy<Value = String> {
    let series = btree_map(labels().prop_map(|labels| braced(&labels)), (value(), time()), 1..5);
    let kind = prop_oneof![Just("counter"), Just("gauge"), Just("untyped")];
    let plain = (series, kind, text()).prop_map(move |(series, kind, help)| {
        let name =
            if kind == "counter" { format!("m{number}_total") } else { format!("m{number}") };
        let mut page = head(&name, kind, &help);
        for (labels, (value, time)) in series {
            // A counter is a number that is not below 0.
            let value = match (kind, &*value) {
                ("counter", "NaN" | "-Inf") => "0",
                ("counter", value) => value.trim_start_matches('-'),
                (_, value) => value,
            };
            page.push_str(&[&name, &*labels, " ", value, &time, "\n"].concat());
        }
        page
    });
    let buckets = vec(0_u32..100, 3);
    let histogram = (buckets, text(), time()).prop_map(move |(counts, help, time)| {
        let name = format!("m{number}");
        let mut page = head(&name, "histogram", &help);
        let mut n_events = 0;
        for (bound, count) in ["0.5", "2.5", "+Inf"].into_iter().zip(counts) {
            n_events += count;
            page.extend([format!("{name}_bucket{{le=\"{bound}\"}} {n_events}{time}\n")]);
        }
        page + &format!("{name}_sum 1.5{time}\n{name}_count {n_events}{time}\n")
    });
    prop_oneof![4 => plain, 1 => histogram]
}

fn head(name: &str, kind: &str, help: &str) -> String {
    let help = help.replace('\\', "\\\\").replace('\n', "\\n");
    // White space at its ends is not a part of it.
    let help = help.trim();
    let help = if help.is_empty() { String::new() } else { format!("# HELP {name} {help}\n") };
    format!("{help}# TYPE {name} {kind}\n")
}

/// Pages with one to nine families, in the order of their names.
fn made_up() -> Vec<String> {
    let mut runner = TestRunner::deterministic();
    let page =
        (1..10_usize).prop_flat_map(|n_families| (0..n_families).map(family).collect::<Vec<_>>());
    let page = page.prop_map(|families| families.concat());
    let pages = (0..N_PAGES).map(|_| page.new_tree(&mut runner).expect("a page").current());
    pages.collect()
}

fn recorded() -> Vec<String> {
    let fixtures = Path::new(env!("CARGO_MANIFEST_DIR")).join("fixtures");
    let folders = ["v1.20.2", "v1.34.9"].map(|version| fixtures.join(version).join("pages"));
    let files = folders.iter().flat_map(|folder| fs::read_dir(folder).expect("it is there"));
    let read = |file: std::io::Result<fs::DirEntry>| {
        fs::read_to_string(file.expect("its files are there").path()).expect("a page is UTF-8")
    };
    files.map(read).collect()
}

#[test]
fn a_page_in_our_own_spelling_comes_out_as_it_went_in() {
    for page in made_up() {
        let text = served(page.as_bytes(), Dialect::Text, Format::Text004);
        assert_eq!(String::from_utf8_lossy(&text), page);
        let openmetrics = served(page.as_bytes(), Dialect::Text, Format::OpenMetrics100);
        let again = served(&openmetrics, Dialect::OpenMetrics, Format::OpenMetrics100);
        assert_eq!(String::from_utf8_lossy(&again), String::from_utf8_lossy(&openmetrics));
    }
}

#[test]
fn python_reads_of_what_is_served_what_it_reads_of_what_came() {
    let Some(mut python) = python() else { return };
    let dir = tempfile::tempdir().expect("a temporary folder");
    for (number, page) in recorded().into_iter().chain(made_up()).enumerate() {
        drop(write(dir.path(), &format!("{number}.received"), &page));
        for (format, suffix) in [(Format::Text004, "text"), (Format::OpenMetrics100, "openmetrics")]
        {
            let served = served(page.as_bytes(), Dialect::Text, format);
            let served = String::from_utf8(served).expect("what is served is UTF-8");
            drop(write(dir.path(), &format!("{number}.{suffix}"), &served));
        }
    }
    let output = run_with_input(python.args(["-c", COMPARE]).arg(dir.path()), b"");
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{said}");
    let n_read = String::from_utf8_lossy(&output.stdout);
    println!("report: differential | prometheus_client | {}", n_read.trim());
}

#[test]
fn promtool_takes_what_is_served() {
    let Some(promtool) = tool("PODMETER_PROMTOOL") else { return };
    // A process each: a few of them say as much.
    for page in made_up().into_iter().take(20) {
        let served = served(page.as_bytes(), Dialect::Text, Format::Text004);
        let output = run_with_input(Command::new(&promtool).args(["check", "metrics"]), &served);
        let said = String::from_utf8_lossy(&output.stderr);
        // 3 is what it says of names and missing help.
        assert!(matches!(output.status.code(), Some(0 | 3)), "{said}\n{page}");
    }
}
