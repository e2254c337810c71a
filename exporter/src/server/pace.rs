//! Whose turn it is on a connection, and since when: what tells a slow client from a slow answer.
//!
//! hyper has one timeout for an idle connection and for slow headers, and none for a slow reader. So the socket and
//! the service note here what happens, and `connection` asks for the deadline that follows from it.

use std::{
    io,
    pin::Pin,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    task::{Context, Poll},
};

use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    net::TcpStream,
    time::Instant,
};

use super::limits::{Limit, Limits};

/// The pace of one connection; clones are the same one. Only the connection's own task has it.
#[derive(Clone, Debug)]
pub(super) struct Pace(Arc<Mutex<State>>);

#[derive(Debug)]
struct State {
    turn: Turn,
    /// When the turn began, or the last bytes were taken.
    since: Instant,
    /// Since when the client takes nothing of what waits for it.
    stalled_since: Option<Instant>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Turn {
    /// The client may ask again.
    Idle,
    /// The client has begun to ask.
    Asking,
    /// The server looks for the answer.
    Answering,
}

impl Pace {
    /// A connection that has just been made; its client is expected to ask at once.
    pub(super) fn new() -> Self {
        let state = State { turn: Turn::Asking, since: Instant::now(), stalled_since: None };
        Self(Arc::new(Mutex::new(state)))
    }

    /// The connection has been made safe; from here on the client is expected to ask at once.
    pub(super) fn begin(&self) {
        let mut state = self.state();
        *state = State { turn: Turn::Asking, since: Instant::now(), stalled_since: None };
    }

    /// The headers are complete.
    pub(super) fn begin_answer(&self) {
        self.state().turn = Turn::Answering;
    }

    /// The answer is known; what is left of it is for the client to take.
    pub(super) fn end_answer(&self) {
        let mut state = self.state();
        state.turn = Turn::Idle;
        state.since = Instant::now();
    }

    /// When the client is to be cut off unless something happens, and by which limit.
    pub(super) fn deadline(&self, limits: &Limits) -> Option<(Instant, Limit)> {
        let state = self.state();
        if let Some(since) = state.stalled_since {
            return Some((since + limits.write_stall_time, Limit::WriteStallTime));
        }
        match state.turn {
            Turn::Idle => Some((state.since + limits.idle_time, Limit::IdleTime)),
            Turn::Asking => Some((state.since + limits.header_time, Limit::HeaderTime)),
            Turn::Answering => None,
        }
    }

    /// Since when the client has neither asked for anything nor taken any of an answer, unless one waits for it.
    pub(super) fn silent_since(&self) -> Option<Instant> {
        let state = self.state();
        let is_silent = state.turn != Turn::Answering && state.stalled_since.is_none();
        is_silent.then_some(state.since)
    }

    fn note_read(&self) {
        let mut state = self.state();
        if state.turn == Turn::Idle {
            state.turn = Turn::Asking;
            state.since = Instant::now();
        }
    }

    fn note_write(&self, written: &Poll<io::Result<usize>>) {
        let mut state = self.state();
        let now = Instant::now();
        if written.is_pending() {
            state.stalled_since.get_or_insert(now);
        } else {
            state.stalled_since = None;
            state.since = now;
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A socket that notes its pace.
#[derive(Debug)]
pub(super) struct PacedStream {
    stream: TcpStream,
    pace: Pace,
}

impl PacedStream {
    pub(super) fn new(stream: TcpStream, pace: Pace) -> Self {
        Self { stream, pace }
    }

    pub(super) fn into_inner(self) -> TcpStream {
        self.stream
    }
}

impl AsyncRead for PacedStream {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let n_before = buffer.filled().len();
        let read = Pin::new(&mut self.stream).poll_read(context, buffer);
        if buffer.filled().len() > n_before {
            self.pace.note_read();
        }
        read
    }
}

impl AsyncWrite for PacedStream {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        let written = Pin::new(&mut self.stream).poll_write(context, bytes);
        self.pace.note_write(&written);
        written
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let written = Pin::new(&mut self.stream).poll_write_vectored(context, slices);
        self.pace.note_write(&written);
        written
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(context)
    }
}
