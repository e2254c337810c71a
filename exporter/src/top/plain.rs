//! Rows for pipes: one line per container, columns aligned, numbers that `sort` and `awk` read.

use std::io::{self, Write};

use crate::labelling::glance::{Rates, Signal, sort};

/// The name of the first column.
const WHO: &str = "container";

/// Writes a table; tables that follow another have an empty line before them.
pub(super) fn print(
    out: &mut impl Write,
    mut rates: Rates,
    by: Signal,
    n_rows: usize,
    is_first: bool,
) -> io::Result<()> {
    sort(&mut rates.rows, by);
    if n_rows > 0 {
        rates.rows.truncate(n_rows);
    }
    let who: Vec<String> = rates.rows.iter().map(|row| one_line(&row.who)).collect();
    let width = who.iter().map(|who| who.chars().count()).chain([WHO.len()]).max();
    let width = width.unwrap_or_default();
    let headings = Signal::ALL.map(heading);
    if !is_first {
        writeln!(out)?;
    }
    write!(out, "{WHO:<width$}")?;
    for heading in &headings {
        write!(out, "  {heading}")?;
    }
    writeln!(out)?;
    for (row, who) in rates.rows.iter().zip(who) {
        write!(out, "{who:<width$}")?;
        for (rate, heading) in row.rates.iter().zip(&headings) {
            write!(out, "  {:>width$}", number(*rate), width = heading.len())?;
        }
        writeln!(out)?;
    }
    out.flush()
}

/// A signal with its unit, without a blank.
fn heading(signal: Signal) -> String {
    format!("{}({})", signal.as_str(), signal.unit().0)
}

/// A rate; what is not measured is a dash.
pub(super) fn number(rate: Option<f64>) -> String {
    rate.map_or_else(|| "-".into(), |rate| format!("{rate:.1}"))
}

/// A name without what would move a terminal's cursor; names of cgroups may have anything but a slash in them.
pub(super) fn one_line(who: &str) -> String {
    who.chars().map(|letter| if letter.is_control() { '\u{fffd}' } else { letter }).collect()
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use expect_test::expect;

    use super::print;
    use crate::labelling::glance::{Rates, Row, Signal};

    #[test]
    fn columns_are_aligned_and_the_greatest_is_first() {
        let row = |who: &str, throttled, received| Row {
            who: who.into(),
            rates: [throttled, None, None, None, Some(received), None, Some(0.0)],
        };
        let rows = vec![
            row("n9e/webapi-7c/webapi", Some(3.25), 0.0),
            row("n9e/db-0/mysql", Some(120.0), 48_211.7),
            row("/system.slice/bad\nname\u{1b}[2J", None, 1.0),
        ];
        let rates = Rates { rows, elapsed: Duration::from_secs(2), n_left_out: 0 };
        let mut out = Vec::new();
        print(&mut out, rates.clone(), Signal::Throttled, 0, true).unwrap();
        print(&mut out, rates, Signal::Received, 1, false).unwrap();
        expect![[r#"
            container                   throttled(ms/s)  run-queue(ms/s)  read(kB/s)  written(kB/s)  received(kB/s)  sent(kB/s)  retransmitted(1/s)
            n9e/db-0/mysql                        120.0                -           -              -         48211.7           -                 0.0
            n9e/webapi-7c/webapi                    3.2                -           -              -             0.0           -                 0.0
            /system.slice/bad�name�[2J                -                -           -              -             1.0           -                 0.0

            container       throttled(ms/s)  run-queue(ms/s)  read(kB/s)  written(kB/s)  received(kB/s)  sent(kB/s)  retransmitted(1/s)
            n9e/db-0/mysql            120.0                -           -              -         48211.7           -                 0.0
        "#]]
        .assert_eq(&String::from_utf8(out).unwrap());
    }
}
