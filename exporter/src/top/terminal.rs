//! `podmeter top` on a terminal: draws after each look and each key, and leaves the terminal as it was, whether it is
//! told to stop by a key, by a signal or by a panic.

use std::{io, thread, time::Duration};

use ratatui::{
    DefaultTerminal,
    crossterm::event::{self, Event},
};
use tokio::{
    signal::unix::{SignalKind, signal},
    sync::mpsc,
    task, time,
};

use super::{
    TopError, draw,
    poll::Poller,
    state::{Next, State},
};
use crate::{cli::TopArgs, error_chain::one_line, labelling::glance::Rates};

/// How long the thread that reads keys looks for one before it asks whether it is still wanted.
const KEY_WAIT: Duration = Duration::from_millis(100);
/// Keys that wait to be handled; a person does not type faster.
const MAX_WAITING_KEYS: usize = 64;

/// Shows until a key or a signal ends it; an endpoint that cannot be asked the first time ends it at once.
pub(super) async fn run(mut poller: Poller, args: &TopArgs) -> Result<(), TopError> {
    poller.look().await?;
    let mut stop = Stop::new().map_err(TopError::Terminal)?;
    let mut state = State::new(poller.endpoint(), args.sort);
    let mut screen = Screen::open().map_err(TopError::Terminal)?;
    let (looks, mut looked) = mpsc::channel(1);
    let looking = task::spawn(look_on(poller, args.interval, looks));
    let (keys, mut pressed) = mpsc::channel(MAX_WAITING_KEYS);
    let reading = thread::Builder::new().name("top-keys".into()).spawn(move || read_keys(&keys));
    let reading = reading.map_err(TopError::Terminal)?;
    let ended = loop {
        if let Err(error) = screen.0.draw(|frame| draw::draw(frame, &state)) {
            break Err(error);
        }
        tokio::select! {
            () = stop.asked() => break Ok(()),
            look = looked.recv() => match look {
                Some(Ok(rates)) => state.show(rates),
                Some(Err(error)) => state.error = Some(one_line(&error)),
                None => break Err(io::Error::other("looking ended early, which is a bug")),
            },
            event = pressed.recv() => match event {
                Some(Ok(Event::Key(key))) => {
                    if state.press(key) == Next::Quit {
                        break Ok(());
                    }
                }
                // A new size is drawn like everything else.
                Some(Ok(_)) => {}
                Some(Err(error)) => break Err(error),
                None => break Err(io::Error::other("reading keys ended early, which is a bug")),
            },
        }
    };
    drop(screen);
    looking.abort();
    pressed.close();
    // It sees that within its wait.
    let joined = reading.join();
    ended.map_err(TopError::Terminal)?;
    joined.map_err(|_panic| TopError::Terminal(io::Error::other("reading keys panicked")))
}

/// The terminal as its own screen, which goes when this does; a panic's text is printed after that.
struct Screen(DefaultTerminal);

impl Screen {
    fn open() -> io::Result<Self> {
        ratatui::try_init().map(Self)
    }
}

impl Drop for Screen {
    fn drop(&mut self) {
        ratatui::restore();
    }
}

/// Looks once per interval until nobody wants to know.
async fn look_on(
    mut poller: Poller,
    interval: Duration,
    looks: mpsc::Sender<Result<Rates, TopError>>,
) {
    let mut ticks = time::interval_at(time::Instant::now() + interval, interval);
    ticks.set_missed_tick_behavior(time::MissedTickBehavior::Delay);
    loop {
        ticks.tick().await;
        if let Some(look) = poller.look().await.transpose()
            && looks.send(look).await.is_err()
        {
            return;
        }
    }
}

/// Reads what is typed until nobody wants to know; blocks.
fn read_keys(keys: &mpsc::Sender<io::Result<Event>>) {
    while !keys.is_closed() {
        let event = match event::poll(KEY_WAIT) {
            Ok(false) => continue,
            Ok(true) => event::read(),
            Err(error) => Err(error),
        };
        let has_failed = event.is_err();
        if keys.blocking_send(event).is_err() || has_failed {
            return;
        }
    }
}

/// The signals that end a program politely.
struct Stop([tokio::signal::unix::Signal; 3]);

impl Stop {
    /// From here on they are caught.
    fn new() -> io::Result<Self> {
        Ok(Self([
            signal(SignalKind::terminate())?,
            signal(SignalKind::interrupt())?,
            signal(SignalKind::hangup())?,
        ]))
    }

    async fn asked(&mut self) {
        let [terminate, interrupt, hangup] = &mut self.0;
        tokio::select! {
            _ = terminate.recv() => {}
            _ = interrupt.recv() => {}
            _ = hangup.recv() => {}
        }
    }
}
