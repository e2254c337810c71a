//! The body of an answer: bytes that are there already, given to the socket piece by piece.

use std::{
    collections::VecDeque,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
};

use bytes::Bytes;
use hyper::body::{Body, Frame, SizeHint};
use tokio::{
    sync::{OwnedSemaphorePermit, Semaphore},
    time::Instant,
};

/// What the socket gets at once. hyper asks for the next piece when this one is gone, so all but the last piece of a
/// scrape is sent while its place is held; large enough that the calls cost nothing.
const PIECE_BYTES: usize = 256 * 1024;

/// The body of an answer.
#[derive(Debug)]
pub(super) struct AnswerBody {
    /// Pieces that are left; none of them is empty.
    rest: VecDeque<Bytes>,
    place: Option<ScrapePlace>,
}

/// The place of a scrape among those that may run at once; free again when it is dropped.
#[derive(Debug)]
pub(super) struct ScrapePlace {
    _permit: OwnedSemaphorePermit,
    deadline: Instant,
}

impl ScrapePlace {
    /// Takes a place, if one is free.
    pub(super) fn take(places: &Arc<Semaphore>, deadline: Instant) -> Option<Self> {
        let permit = Arc::clone(places).try_acquire_owned().ok()?;
        Some(Self { _permit: permit, deadline })
    }

    /// When the whole answer must have been taken.
    pub(super) fn deadline(&self) -> Instant {
        self.deadline
    }
}

/// The client took the answer too slowly.
#[derive(Debug, thiserror::Error)]
#[error("the answer was not taken in time")]
pub(super) struct TakenTooSlowly;

impl AnswerBody {
    pub(super) fn new(bytes: impl Into<Bytes>) -> Self {
        Self { rest: filled([bytes.into()]), place: None }
    }

    /// A body that holds the scrape's place, and fails when the scrape's time is up.
    pub(super) fn of_scrape(pieces: Vec<Bytes>, place: ScrapePlace) -> Self {
        Self { rest: filled(pieces), place: Some(place) }
    }
}

fn filled(pieces: impl IntoIterator<Item = Bytes>) -> VecDeque<Bytes> {
    pieces.into_iter().filter(|piece| !piece.is_empty()).collect()
}

impl Body for AnswerBody {
    type Data = Bytes;
    type Error = TakenTooSlowly;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        _context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, TakenTooSlowly>>> {
        if self.rest.is_empty() {
            return Poll::Ready(None);
        }
        if self.place.as_ref().is_some_and(|place| place.deadline <= Instant::now()) {
            return Poll::Ready(Some(Err(TakenTooSlowly)));
        }
        let Some(mut piece) = self.rest.pop_front() else {
            return Poll::Ready(None);
        };
        if piece.len() > PIECE_BYTES {
            self.rest.push_front(piece.split_off(PIECE_BYTES));
        }
        Poll::Ready(Some(Ok(Frame::data(piece))))
    }

    fn is_end_stream(&self) -> bool {
        self.rest.is_empty()
    }

    fn size_hint(&self) -> SizeHint {
        let n_bytes: usize = self.rest.iter().map(Bytes::len).sum();
        u64::try_from(n_bytes).map_or_else(|_| SizeHint::default(), SizeHint::with_exact)
    }
}
