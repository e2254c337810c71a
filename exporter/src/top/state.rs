//! What the screen shows, and what keys do to it. Pure.

use std::collections::{BTreeMap, VecDeque};

use ratatui::crossterm::event::{KeyCode, KeyEvent, KeyEventKind, KeyModifiers};

use crate::labelling::glance::{PerSignal, Rates, Signal, sort};

/// How many looks a history has; a column of the terminal each.
pub(super) const HISTORY_LENGTH: usize = 30;

/// How far a page key goes.
const PAGE_ROWS: usize = 10;

/// What the screen shows.
#[derive(Debug)]
pub(super) struct State {
    /// Scheme, host and port.
    pub(super) endpoint: String,
    pub(super) by: Signal,
    /// The rows, the greatest first; none before the second look.
    pub(super) rates: Option<Rates>,
    /// Why the last look gave nothing.
    pub(super) error: Option<String>,
    /// The row at the top of the screen.
    pub(super) offset: usize,
    histories: BTreeMap<String, VecDeque<PerSignal>>,
}

/// What comes after a key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Next {
    Draw,
    Quit,
}

impl State {
    pub(super) fn new(endpoint: String, by: Signal) -> Self {
        Self { endpoint, by, rates: None, error: None, offset: 0, histories: BTreeMap::new() }
    }

    /// Takes what a look gave.
    pub(super) fn show(&mut self, mut rates: Rates) {
        // Who is gone has no history; there are no more of them than rows, which are bounded.
        let mut before = std::mem::take(&mut self.histories);
        for row in &rates.rows {
            let mut history = before.remove(&row.who).unwrap_or_default();
            if history.len() == HISTORY_LENGTH {
                history.pop_front();
            }
            history.push_back(row.rates);
            self.histories.insert(row.who.clone(), history);
        }
        sort(&mut rates.rows, self.by);
        self.offset = self.offset.min(rates.rows.len().saturating_sub(1));
        self.rates = Some(rates);
        self.error = None;
    }

    /// What a row's rate was, the oldest first.
    pub(super) fn history(&self, who: &str) -> Vec<Option<f64>> {
        let history = self.histories.get(who).into_iter().flatten();
        history.map(|rates| self.by.of(rates)).collect()
    }

    /// Does what a key asks for.
    pub(super) fn press(&mut self, key: KeyEvent) -> Next {
        if key.kind == KeyEventKind::Release {
            return Next::Draw;
        }
        let is_control = key.modifiers.contains(KeyModifiers::CONTROL);
        let last = self.rates.as_ref().map_or(0, |rates| rates.rows.len().saturating_sub(1));
        match key.code {
            KeyCode::Char('c') if is_control => return Next::Quit,
            KeyCode::Char('q') | KeyCode::Esc => return Next::Quit,
            KeyCode::Char(letter) => {
                if let Some(signal) = Signal::ALL.into_iter().find(|one| self::key(*one) == letter)
                {
                    self.sort_by(signal);
                }
            }
            KeyCode::Left => self.sort_by(neighbour(self.by, Signal::ALL.len() - 1)),
            KeyCode::Right => self.sort_by(neighbour(self.by, 1)),
            KeyCode::Up => self.offset = self.offset.saturating_sub(1),
            KeyCode::Down => self.offset = (self.offset + 1).min(last),
            KeyCode::PageUp => self.offset = self.offset.saturating_sub(PAGE_ROWS),
            KeyCode::PageDown => self.offset = (self.offset + PAGE_ROWS).min(last),
            KeyCode::Home => self.offset = 0,
            KeyCode::End => self.offset = last,
            _ => {}
        }
        Next::Draw
    }

    fn sort_by(&mut self, signal: Signal) {
        self.by = signal;
        self.offset = 0;
        if let Some(rates) = &mut self.rates {
            sort(&mut rates.rows, signal);
        }
    }
}

/// The key that puts a signal on top.
pub(super) fn key(signal: Signal) -> char {
    match signal {
        Signal::Throttled => 't',
        Signal::RunQueue => 'd',
        Signal::Read => 'r',
        Signal::Written => 'w',
        Signal::Received => 'i',
        Signal::Sent => 'o',
        Signal::Retransmitted => 'x',
    }
}

/// The signal so many places to the right, around the end.
fn neighbour(signal: Signal, n_places: usize) -> Signal {
    let mut from = Signal::ALL.into_iter().cycle().skip_while(|one| *one != signal);
    from.nth(n_places).unwrap_or(signal)
}

#[cfg(test)]
mod tests {
    use std::{collections::BTreeSet, time::Duration};

    use ratatui::crossterm::event::{KeyCode, KeyEvent, KeyModifiers};

    use super::{HISTORY_LENGTH, Next, State, key};
    use crate::labelling::glance::{Rates, Row, Signal};

    fn rates(rows: &[(&str, f64, f64)]) -> Rates {
        let row = |(who, throttled, read): &(&str, f64, f64)| Row {
            who: (*who).into(),
            rates: [Some(*throttled), None, Some(*read), None, None, None, None],
        };
        let rows = rows.iter().map(row).collect();
        Rates { rows, elapsed: Duration::from_secs(2), n_left_out: 0 }
    }

    fn names(state: &State) -> Vec<&str> {
        state.rates.as_ref().unwrap().rows.iter().map(|row| row.who.as_str()).collect()
    }

    fn press(state: &mut State, code: KeyCode) -> Next {
        state.press(KeyEvent::new(code, KeyModifiers::NONE))
    }

    #[test]
    fn keys_sort_scroll_and_quit() {
        let mut state = State::new("http://node".into(), Signal::Throttled);
        state.show(rates(&[("a", 1.0, 2.0), ("b", 2.0, 1.0)]));
        assert_eq!(names(&state), ["b", "a"]);
        assert_eq!(press(&mut state, KeyCode::Down), Next::Draw);
        assert_eq!(press(&mut state, KeyCode::PageDown), Next::Draw);
        assert_eq!(state.offset, 1, "the last row stays in sight");
        press(&mut state, KeyCode::Char('r'));
        assert_eq!((names(&state), state.offset), (vec!["a", "b"], 0));
        press(&mut state, KeyCode::Left);
        press(&mut state, KeyCode::Left);
        assert_eq!(state.by, Signal::Throttled);
        press(&mut state, KeyCode::Left);
        assert_eq!(state.by, Signal::Retransmitted);
        press(&mut state, KeyCode::Right);
        assert_eq!((state.by, names(&state)), (Signal::Throttled, vec!["b", "a"]));
        assert_eq!(press(&mut state, KeyCode::Char('q')), Next::Quit);
        let control_c = KeyEvent::new(KeyCode::Char('c'), KeyModifiers::CONTROL);
        assert_eq!(state.press(control_c), Next::Quit);
    }

    #[test]
    fn no_key_is_taken_twice() {
        let keys: BTreeSet<char> = Signal::ALL.into_iter().map(key).chain(['q']).collect();
        assert_eq!(keys.len(), Signal::ALL.len() + 1);
    }

    #[test]
    fn histories_are_bounded_and_go_with_their_rows() {
        let mut state = State::new("http://node".into(), Signal::Throttled);
        let looks = (0_u32..).take(HISTORY_LENGTH + 2);
        for look in looks {
            state.error = Some("down".into());
            state.show(rates(&[("a", f64::from(look), 0.0)]));
        }
        let history = state.history("a");
        assert_eq!((history.len(), history[0]), (HISTORY_LENGTH, Some(2.0)));
        assert_eq!(state.error, None, "it is over");
        state.show(rates(&[("b", 1.0, 0.0)]));
        assert_eq!(state.history("a"), []);
    }
}
