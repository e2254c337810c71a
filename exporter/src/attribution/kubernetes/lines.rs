//! The lines of a body that comes in pieces. Pure.

use bytes::{Buf as _, BytesMut};

/// What came of a body and was not yet taken.
#[derive(Debug, Default)]
pub(super) struct Lines {
    buffer: BytesMut,
    /// How much of the buffer has no end of a line in it.
    n_searched: usize,
}

impl Lines {
    /// Takes the next piece.
    pub(super) fn push(&mut self, piece: &[u8]) {
        self.buffer.extend_from_slice(piece);
    }

    /// The next line without its end; `None` until that has come.
    pub(super) fn next(&mut self) -> Option<BytesMut> {
        let rest = self.buffer.get(self.n_searched..).unwrap_or_default();
        let Some(at) = memchr::memchr(b'\n', rest) else {
            self.n_searched = self.buffer.len();
            return None;
        };
        let line = self.buffer.split_to(self.n_searched + at);
        self.buffer.advance(1);
        self.n_searched = 0;
        if self.buffer.is_empty() {
            // A burst of events needs not be paid for as long as the watch lasts.
            self.buffer = BytesMut::new();
        }
        Some(line)
    }

    /// How many bytes wait.
    pub(super) fn n_bytes(&self) -> usize {
        self.buffer.len()
    }
}

#[cfg(test)]
mod tests {
    use super::Lines;

    #[test]
    fn lines_are_the_same_in_whatever_pieces_they_come() {
        let text = b"one\n\ntwo\nrest";
        for n_bytes in 1..=text.len() {
            let (mut lines, mut found) = (Lines::default(), Vec::new());
            for piece in text.chunks(n_bytes) {
                lines.push(piece);
                found.extend(std::iter::from_fn(|| lines.next()));
            }
            assert_eq!(found, ["one", "", "two"], "{n_bytes}");
            assert_eq!(lines.n_bytes(), "rest".len());
        }
    }
}
