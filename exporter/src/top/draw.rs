//! The screen of `podmeter top`: a line about the endpoint, the rows with their histories, and the keys.

use ratatui::{
    Frame,
    layout::{Constraint, Layout, Rect},
    style::{Color, Modifier, Style},
    text::{Line, Span},
    widgets::{Paragraph, Row as TableRow, Sparkline, Table},
};

use super::{
    plain::{number, one_line},
    state::{HISTORY_LENGTH, State, key},
};
use crate::labelling::glance::{Rates, Signal};

/// The room that the names get at least, in letters.
const MIN_NAME_WIDTH: u16 = 20;
/// The room of a number; the titles fit in, and the bytes of a fast network.
const NUMBER_WIDTH: u16 = 11;
const GAP: u16 = 1;

/// Draws the whole screen.
pub(super) fn draw(frame: &mut Frame<'_>, state: &State) {
    let [head, body, foot] =
        Layout::vertical([Constraint::Length(1), Constraint::Min(0), Constraint::Length(1)])
            .areas(frame.area());
    frame.render_widget(Paragraph::new(head_line(state)), head);
    frame.render_widget(Paragraph::new(foot_line()), foot);
    match &state.rates {
        Some(rates) if rates.rows.is_empty() => {
            let text = "no container, pod or service is measured; `podmeter check` says why";
            frame.render_widget(Paragraph::new(text), body);
        }
        Some(rates) => rows(frame, body, state, rates),
        None => frame.render_widget(Paragraph::new("waiting for the second look"), body),
    }
}

fn head_line(state: &State) -> Line<'_> {
    let mut spans = vec![Span::styled(
        format!("podmeter top  {}", state.endpoint),
        Style::new().add_modifier(Modifier::BOLD),
    )];
    if let Some(rates) = &state.rates {
        spans.push(format!("  last {:.1} s", rates.elapsed.as_secs_f64()).into());
        let missing = missing(rates);
        if !missing.is_empty() {
            spans.push(format!("  not measured here: {}", missing.join(", ")).into());
        }
        if rates.n_left_out > 0 {
            spans.push(format!("  {} series left out", rates.n_left_out).into());
        }
    }
    if let Some(error) = &state.error {
        spans = vec![Span::styled(one_line(error), Style::new().fg(Color::Red))];
    }
    Line::from(spans)
}

/// Signals that no row has.
fn missing(rates: &Rates) -> Vec<&'static str> {
    let missing = Signal::ALL.into_iter().filter(|signal| !rates.is_measured(*signal));
    missing.map(Signal::as_str).collect()
}

/// What stands above a column.
fn title(signal: Signal) -> &'static str {
    match signal {
        Signal::Throttled => "thrott ms/s",
        Signal::RunQueue => "runq ms/s",
        Signal::Read => "read kB/s",
        Signal::Written => "writ kB/s",
        Signal::Received => "recv kB/s",
        Signal::Sent => "sent kB/s",
        Signal::Retransmitted => "retran 1/s",
    }
}

fn foot_line() -> Line<'static> {
    let names = Signal::ALL.map(|signal| format!("{} {}", key(signal), signal.as_str()));
    let text = format!("sort: {}   arrows: sort, scroll   q quit", names.join("  "));
    Line::styled(text, Style::new().add_modifier(Modifier::DIM))
}

fn rows(frame: &mut Frame<'_>, area: Rect, state: &State, rates: &Rates) {
    // The line at the top names those that are not measured.
    let is_shown = |signal: &Signal| *signal == state.by || rates.is_measured(*signal);
    let signals: Vec<Signal> = Signal::ALL.into_iter().filter(is_shown).collect();
    let numbers_width: u16 = signals.iter().map(|_| NUMBER_WIDTH + GAP).sum();
    let history_width = u16::try_from(HISTORY_LENGTH).unwrap_or(u16::MAX);
    let room = area.width.saturating_sub(numbers_width + MIN_NAME_WIDTH + GAP);
    // On a narrow terminal the numbers are worth more than the histories.
    let history_width = history_width.min(room);
    let [table_area, _, history_area] = Layout::horizontal([
        Constraint::Min(0),
        Constraint::Length(GAP),
        Constraint::Length(history_width),
    ])
    .areas(area);

    let chosen = |signal: Signal| {
        if signal == state.by { Style::new().add_modifier(Modifier::BOLD) } else { Style::new() }
    };
    let header = signals.iter().map(|signal| {
        let style = chosen(*signal).add_modifier(Modifier::UNDERLINED);
        Line::styled(title(*signal), style).right_aligned()
    });
    let header = TableRow::new([Line::from("container")].into_iter().chain(header));
    let n_visible = usize::from(area.height.saturating_sub(1));
    let visible = || rates.rows.iter().skip(state.offset).take(n_visible);
    let table_rows = visible().map(|row| {
        let numbers = signals.iter().map(|signal| {
            Line::styled(number(signal.of(&row.rates)), chosen(*signal)).right_aligned()
        });
        TableRow::new([Line::from(one_line(&row.who))].into_iter().chain(numbers))
    });
    let constraints = [Constraint::Min(MIN_NAME_WIDTH)]
        .into_iter()
        .chain(signals.iter().map(|_| Constraint::Length(NUMBER_WIDTH)));
    let table = Table::new(table_rows, constraints).header(header).column_spacing(GAP);
    frame.render_widget(table, table_area);

    let histories: Vec<Vec<Option<f64>>> = visible().map(|row| state.history(&row.who)).collect();
    // One scale for all rows, so that they can be compared.
    let greatest = histories.iter().flatten().flatten().copied().fold(0.0, f64::max);
    for (history, line) in histories.iter().zip(history_area.rows().skip(1)) {
        let bars: Vec<Option<u64>> =
            history.iter().map(|rate| rate.map(|rate| share(rate, greatest))).collect();
        let n_bars = usize::from(line.width);
        let bars = bars.get(bars.len().saturating_sub(n_bars)..).unwrap_or_default();
        frame.render_widget(Sparkline::default().data(bars.iter().copied()).max(SCALE), line);
    }
}

/// What a bar of full height counts.
const SCALE: u64 = 1000;

#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    clippy::cast_precision_loss,
    reason = "a share of a rate that is not negative lies between 0 and the scale"
)]
fn share(rate: f64, greatest: f64) -> u64 {
    if greatest > 0.0 { (rate / greatest * SCALE as f64).round() as u64 } else { 0 }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use expect_test::{Expect, expect};
    use ratatui::{Terminal, backend::TestBackend};

    use super::draw;
    use crate::{
        labelling::glance::{Rates, Row, Signal},
        top::state::State,
    };

    fn state() -> State {
        let mut state = State::new("http://127.0.0.1:9643".into(), Signal::Throttled);
        for look in 0..8 {
            let row = |who: &str, throttled, received| Row {
                who: who.into(),
                rates: [
                    throttled,
                    None,
                    Some(0.0),
                    Some(12.5),
                    Some(received),
                    Some(1.0),
                    Some(0.0),
                ],
            };
            let rows = vec![
                row("n9e/webapi-7c9d8/webapi", Some(100.0 * f64::from(look)), 48_211.7),
                row("n9e/db-0/mysql", Some(350.0), 3.0),
                row("/system.slice/\u{1b}[2Jcontainerd.service", None, 0.0),
            ];
            state.show(Rates { rows, elapsed: Duration::from_secs(2), n_left_out: 0 });
        }
        state
    }

    fn check(state: &State, (width, height): (u16, u16), expected: Expect) {
        let mut terminal = Terminal::new(TestBackend::new(width, height)).unwrap();
        terminal.draw(|frame| draw(frame, state)).unwrap();
        expected.assert_eq(&terminal.backend().to_string());
    }

    #[test]
    fn rows_with_their_histories() {
        check(
            &state(),
            (170, 6),
            expect![[r#"
            "podmeter top  http://127.0.0.1:9643  last 2.0 s  not measured here: run-queue                                                                                             "
            "container                                                           thrott ms/s   read kB/s   writ kB/s   recv kB/s   sent kB/s  retran 1/s                               "
            "n9e/webapi-7c9d8/webapi                                                   700.0         0.0        12.5     48211.7         1.0         0.0  ▁▂▃▄▅▆█                      "
            "n9e/db-0/mysql                                                            350.0         0.0        12.5         3.0         1.0         0.0 ▄▄▄▄▄▄▄▄                      "
            "/system.slice/�[2Jcontainerd.service                                          -         0.0        12.5         0.0         1.0         0.0                               "
            "sort: t throttled  d run-queue  r read  w written  i received  o sent  x retransmitted   arrows: sort, scroll   q quit                                                    "
        "#]],
        );
    }

    #[test]
    fn a_narrow_terminal_keeps_the_numbers() {
        let mut state = state();
        state.offset = 1;
        check(
            &state,
            (100, 5),
            expect![[r#"
            "podmeter top  http://127.0.0.1:9643  last 2.0 s  not measured here: run-queue                       "
            "container            thrott ms/s   read kB/s   writ kB/s   recv kB/s   sent kB/s  retran 1/s        "
            "n9e/db-0/mysql             350.0         0.0        12.5         3.0         1.0         0.0 ███████"
            "/system.slice/�[2Jco           -         0.0        12.5         0.0         1.0         0.0        "
            "sort: t throttled  d run-queue  r read  w written  i received  o sent  x retransmitted   arrows: sor"
        "#]],
        );
        check(
            &state,
            (10, 3),
            expect![[r#"
            "podmeter t"
            "con       "
            "sort: t th"
        "#]],
        );
    }

    #[test]
    fn an_error_is_shown_above_the_last_rows() {
        let mut state = state();
        state.error = Some("nobody answers at http://127.0.0.1:9643".into());
        check(
            &state,
            (110, 4),
            expect![[r#"
            "nobody answers at http://127.0.0.1:9643                                                                       "
            "container            thrott ms/s   read kB/s   writ kB/s   recv kB/s   sent kB/s  retran 1/s                  "
            "n9e/webapi-7c9d8/web       700.0         0.0        12.5     48211.7         1.0         0.0  ▁▂▃▄▅▆█         "
            "sort: t throttled  d run-queue  r read  w written  i received  o sent  x retransmitted   arrows: sort, scroll "
        "#]],
        );
        let mut empty = State::new("http://node".into(), Signal::Read);
        check(
            &empty,
            (60, 3),
            expect![[r#"
            "podmeter top  http://node                                   "
            "waiting for the second look                                 "
            "sort: t throttled  d run-queue  r read  w written  i receive"
        "#]],
        );
        empty.show(Rates::default());
        check(
            &empty,
            (80, 3),
            expect![[r#"
            "podmeter top  http://node  last 0.0 s  not measured here: throttled, run-queue, "
            "no container, pod or service is measured; `podmeter check` says why             "
            "sort: t throttled  d run-queue  r read  w written  i received  o sent  x retrans"
        "#]],
        );
    }
}
