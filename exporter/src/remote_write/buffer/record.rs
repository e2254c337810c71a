//! One record of a segment: a header of 28 bytes, and a compressed message. Pure.
//!
//! The header has a checksum of its own: by its length the next record is found, and a body may hold what looks like one.
//!
//! | bytes | what |
//! |---|---|
//! | 0 | 0 while it waits, 1 once it is done; written in place |
//! | 1 | the message: 1 is of Remote-Write 1.0, 2 of 2.0 |
//! | 2, 3 | zero |
//! | 4 to 7 | the length of the body |
//! | 8 to 11 | the number of samples |
//! | 12 to 19 | when the newest sample is of, in milliseconds since the Unix epoch |
//! | 20 to 23 | CRC-32 of the body |
//! | 24 to 27 | CRC-32 of the bytes 1 to 23 |
//!
//! Numbers are little-endian.

use crate::{config::remote_write::MessageKind, remote_write::instants::Milliseconds};

/// The length of a header.
pub(super) const HEADER_BYTES: usize = 28;

/// Largest body: a request of the largest number of samples has a few megabytes.
pub(super) const MAX_BODY_BYTES: usize = 64 << 20;

/// What stands at the beginning of a record that is done.
pub(super) const DONE: u8 = 1;

/// What a record says of its body.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::remote_write) struct Header {
    pub(in crate::remote_write) kind: MessageKind,
    pub(in crate::remote_write) n_samples: usize,
    pub(in crate::remote_write) newest: Milliseconds,
}

/// A header that was read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Read {
    pub(super) is_done: bool,
    pub(super) header: Header,
    pub(super) n_bytes: usize,
    checksum: u32,
}

/// The bytes of a header for that body; none if the body is too large.
pub(super) fn write(header: &Header, body: &[u8]) -> Option<[u8; HEADER_BYTES]> {
    let n_bytes = u32::try_from(body.len()).ok().filter(|_| body.len() <= MAX_BODY_BYTES)?;
    let n_samples = u32::try_from(header.n_samples).ok()?;
    let kind = match header.kind {
        MessageKind::WriteRequest => 1,
        MessageKind::Request => 2,
    };
    let mut bytes = [0; HEADER_BYTES];
    let (front, checksum) = bytes.split_last_chunk_mut::<4>()?;
    let fields = [0, kind, 0, 0].into_iter();
    let fields = fields.chain(n_bytes.to_le_bytes()).chain(n_samples.to_le_bytes());
    let fields = fields.chain(header.newest.to_le_bytes());
    for (place, byte) in front.iter_mut().zip(fields.chain(crc32fast::hash(body).to_le_bytes())) {
        *place = byte;
    }
    *checksum = crc32fast::hash(front.get(1..)?).to_le_bytes();
    Some(bytes)
}

/// Reads a header; none if no record begins so.
pub(super) fn read(bytes: &[u8; HEADER_BYTES]) -> Option<Read> {
    let (state, rest) = bytes.split_first()?;
    let (fields, checksum) = rest.split_last_chunk::<4>()?;
    if crc32fast::hash(fields) != u32::from_le_bytes(*checksum) {
        return None;
    }
    let (flags, numbers) = fields.split_first_chunk::<3>()?;
    let (n_bytes, numbers) = numbers.split_first_chunk::<4>()?;
    let (n_samples, numbers) = numbers.split_first_chunk::<4>()?;
    let (newest, checksum) = numbers.split_first_chunk::<8>()?;
    let kind = match flags {
        [1, 0, 0] => MessageKind::WriteRequest,
        [2, 0, 0] => MessageKind::Request,
        _ => return None,
    };
    let n_bytes = usize::try_from(u32::from_le_bytes(*n_bytes)).ok()?;
    let header = Header {
        kind,
        n_samples: usize::try_from(u32::from_le_bytes(*n_samples)).ok()?,
        newest: Milliseconds::from_le_bytes(*newest),
    };
    let is_record = *state <= DONE && n_bytes <= MAX_BODY_BYTES;
    is_record.then_some(Read {
        is_done: *state == DONE,
        header,
        n_bytes,
        checksum: u32::from_le_bytes(checksum.try_into().ok()?),
    })
}

impl Read {
    /// Whether that body is the one that was written.
    pub(super) fn is_of(&self, body: &[u8]) -> bool {
        body.len() == self.n_bytes && crc32fast::hash(body) == self.checksum
    }
}

#[cfg(test)]
mod tests {
    use super::{HEADER_BYTES, Header, read, write};
    use crate::config::remote_write::MessageKind;

    #[test]
    fn a_header_is_read_back_and_any_other_bit_is_seen() {
        let body = b"a message";
        for kind in [MessageKind::WriteRequest, MessageKind::Request] {
            let header = Header { kind, n_samples: 3, newest: 1_700_000_000_123 };
            let bytes = write(&header, body).unwrap();
            let found = read(&bytes).unwrap();
            assert_eq!((found.header, found.n_bytes, found.is_done), (header, body.len(), false));
            assert!(found.is_of(body) && !found.is_of(b"a massage"));
            // But for the first byte, which changes in place.
            for bit in 8..HEADER_BYTES * 8 {
                let mut wrong = bytes;
                wrong[bit / 8] ^= 1 << (bit % 8);
                assert!(!read(&wrong).is_some_and(|found| found.is_of(body)), "bit {bit}");
            }
        }
        assert_eq!(read(&[0xff; HEADER_BYTES]), None);
        assert_eq!(read(&[0; HEADER_BYTES]), None);
    }
}
