//! The bytes of a page in pieces: what is written anew, and between it what is shared with the pages of targets.

use std::mem;

use bytes::Bytes;

/// From this length on bytes are shared instead of copied; below, a piece costs more than the copy.
const SHARED_BYTES: usize = 16 * 1024;

/// Pieces that are being put together.
#[derive(Debug)]
pub(super) struct Pieces {
    done: Vec<Bytes>,
    /// What is written anew, behind all that is done.
    pub(super) out: Vec<u8>,
}

impl Pieces {
    /// None yet, with room for so many bytes that are written anew.
    pub(super) fn with_capacity(n_bytes: usize) -> Self {
        Self { done: Vec::new(), out: Vec::with_capacity(n_bytes) }
    }

    /// Appends a part of `bytes`, which must be a slice of it.
    pub(super) fn append(&mut self, bytes: &Bytes, part: &[u8]) {
        if part.len() < SHARED_BYTES {
            self.out.extend_from_slice(part);
            return;
        }
        self.flush();
        self.done.push(bytes.slice_ref(part));
    }

    /// All of them, in their order.
    pub(super) fn finish(mut self) -> Vec<Bytes> {
        self.flush();
        self.done
    }

    fn flush(&mut self) {
        if !self.out.is_empty() {
            self.done.push(Bytes::from(mem::take(&mut self.out)));
        }
    }
}
