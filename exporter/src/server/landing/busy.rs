//! The part of the page at `/` that says who waits and who is busy: the first few of each kind.

use super::{Escaped, Span};
use crate::{
    labelling::glance::{Rates, Row, Signal},
    server::app::Busy,
};

/// Most rows of each table; who wants more has `podmeter top`.
const N_ROWS: usize = 8;

/// A table: what is on top of it is the sum of its signals.
struct Kind {
    title: &'static str,
    /// What is written where nobody does it.
    nobody: &'static str,
    signals: &'static [Signal],
}

const KINDS: &[Kind] = &[
    Kind {
        title: "Throttled by a quota",
        nobody: "Nobody was throttled.",
        signals: &[Signal::Throttled],
    },
    Kind { title: "Waiting for a CPU", nobody: "Nobody waited.", signals: &[Signal::RunQueue] },
    Kind {
        title: "Block IO",
        nobody: "Nobody read or wrote.",
        signals: &[Signal::Read, Signal::Written],
    },
    Kind {
        title: "Network",
        nobody: "Nobody received or sent.",
        signals: &[Signal::Received, Signal::Sent, Signal::Retransmitted],
    },
];

/// The section, with its heading.
pub(super) fn section(busy: Option<&Busy>) -> String {
    let Some(Busy { rates, age }) = busy else {
        return "<h2>Busiest</h2>\n<p>Two collections of <a href=\"/metrics\">/metrics</a>, some seconds apart, will \
                show who is busy.</p>\n"
            .to_owned();
    };
    let tables: String = KINDS.iter().map(|kind| kind.html(rates)).collect();
    let left_out = match rates.n_left_out {
        0 => String::new(),
        n_left_out => format!("<p>{n_left_out} series are left out.</p>\n"),
    };
    format!(
        "<h2>Busiest</h2>\n<p>In the {} before the collection of {} ago; <code>podmeter top</code> shows it \
         live.</p>\n<div class=\"busy\">\n{tables}</div>\n{left_out}",
        Span(rates.elapsed),
        Span(*age),
    )
}

impl Kind {
    /// The table; nothing where nobody is measured.
    fn html(&self, rates: &Rates) -> String {
        let Self { title, nobody, signals } = self;
        if !signals.iter().any(|signal| rates.is_measured(*signal)) {
            return String::new();
        }
        let mut rows: Vec<(f64, &Row)> =
            rates.rows.iter().map(|row| (self.bytes_or_time(row), row)).collect();
        rows.retain(|(rate, _)| *rate > 0.0);
        rows.sort_by(|(left, _), (right, _)| right.total_cmp(left));
        rows.truncate(N_ROWS);
        let Some((greatest, _)) = rows.first().copied() else {
            return format!("<div>\n<h3>{title}</h3>\n<p>{nobody}</p>\n</div>\n");
        };
        let headings: String = signals.iter().copied().map(heading).collect();
        let rows: String = rows.iter().map(|(rate, row)| self.row(rate / greatest, row)).collect();
        format!(
            "<div>\n<h3>{title}</h3>\n<table>\n<tr><th>who</th><th></th>{headings}</tr>\n{rows}</table>\n</div>\n"
        )
    }

    fn row(&self, share: f64, row: &Row) -> String {
        let numbers: String =
            self.signals.iter().map(|signal| cell(signal.of(&row.rates))).collect();
        let who = Escaped(&row.who);
        format!("<tr><td>{who}</td><td><meter value=\"{share:.3}\"></meter></td>{numbers}</tr>\n")
    }

    /// What a row is placed by: the signals that are in one unit.
    fn bytes_or_time(&self, row: &Row) -> f64 {
        let unit = self.signals.first().map(|signal| signal.unit());
        let alike = self.signals.iter().filter(|signal| Some(signal.unit()) == unit);
        alike.filter_map(|signal| signal.of(&row.rates)).sum()
    }
}

fn heading(signal: Signal) -> String {
    format!("<th class=\"n\">{}, {}</th>", signal.as_str(), signal.unit().0)
}

fn cell(rate: Option<f64>) -> String {
    match rate {
        Some(rate) => format!("<td class=\"n\">{rate:.1}</td>"),
        None => "<td class=\"n\"></td>".to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use expect_test::expect;

    use super::section;
    use crate::{
        labelling::glance::{Rates, Row},
        server::app::Busy,
    };

    fn busy(rows: Vec<Row>) -> Busy {
        let rates = Rates { rows, elapsed: Duration::from_secs(15), n_left_out: 0 };
        Busy { rates, age: Duration::from_secs(7) }
    }

    fn row(who: &str, throttled: Option<f64>, io: f64, network: f64) -> Row {
        let rates = [throttled, None, Some(io), Some(1.0), Some(network), Some(0.0), None];
        Row { who: who.into(), rates }
    }

    #[test]
    fn the_busiest_are_first_and_no_name_is_html() {
        let hostile = "n/<script>alert(1)</script>\"'&/c";
        let html = section(Some(&busy(vec![
            row("n/p/calm", Some(0.0), 2.0, 0.0),
            row(hostile, Some(250.0), 0.0, 0.0),
            row("n/p/c", Some(500.0), 7.0, 0.0),
        ])));
        expect![[r#"
            <h2>Busiest</h2>
            <p>In the 15.0 s before the collection of 7.0 s ago; <code>podmeter top</code> shows it live.</p>
            <div class="busy">
            <div>
            <h3>Throttled by a quota</h3>
            <table>
            <tr><th>who</th><th></th><th class="n">throttled, ms/s</th></tr>
            <tr><td>n/p/c</td><td><meter value="1.000"></meter></td><td class="n">500.0</td></tr>
            <tr><td>n/&lt;script&gt;alert(1)&lt;/script&gt;&quot;&#39;&amp;/c</td><td><meter value="0.500"></meter></td><td class="n">250.0</td></tr>
            </table>
            </div>
            <div>
            <h3>Block IO</h3>
            <table>
            <tr><th>who</th><th></th><th class="n">read, kB/s</th><th class="n">written, kB/s</th></tr>
            <tr><td>n/p/c</td><td><meter value="1.000"></meter></td><td class="n">7.0</td><td class="n">1.0</td></tr>
            <tr><td>n/p/calm</td><td><meter value="0.375"></meter></td><td class="n">2.0</td><td class="n">1.0</td></tr>
            <tr><td>n/&lt;script&gt;alert(1)&lt;/script&gt;&quot;&#39;&amp;/c</td><td><meter value="0.125"></meter></td><td class="n">0.0</td><td class="n">1.0</td></tr>
            </table>
            </div>
            <div>
            <h3>Network</h3>
            <p>Nobody received or sent.</p>
            </div>
            </div>
        "#]].assert_eq(&html);
        assert!(!html.contains("<script"));
    }

    #[test]
    fn a_full_node_makes_a_short_page() {
        let rows = (0..1000).map(|idx| row(&format!("n/p{idx}/c"), Some(1.0), 1.0, 1.0)).collect();
        let html = section(Some(&busy(rows)));
        assert_eq!(html.matches("<meter").count(), 3 * super::N_ROWS);
        assert!(html.len() < 8192, "{}", html.len());
    }

    #[test]
    fn before_two_collections_it_says_what_is_missing() {
        assert!(section(None).contains("Two collections"));
    }
}
