//! For the fuzz targets: what is found in a file of the buffer.

use super::{
    Header, record,
    segment::{MAGIC, read_all},
};
use crate::config::remote_write::MessageKind;

/// A file as it was read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Found {
    /// Records that wait: where each begins, and its body.
    pub waiting: Vec<(usize, Vec<u8>)>,
    /// Records that are not as they were written.
    pub n_torn: usize,
    /// Where what is kept of the file ends.
    pub end: usize,
}

/// Reads a file as a new process does.
#[must_use]
pub fn read(file: &[u8]) -> Found {
    let n_bytes = u64::try_from(file.len()).unwrap_or(u64::MAX);
    let Ok((contents, end)) = read_all(file, n_bytes) else {
        return Found { waiting: Vec::new(), n_torn: usize::MAX, end: 0 };
    };
    let place = |offset: u64| usize::try_from(offset).unwrap_or(usize::MAX);
    let body = |at: usize| {
        let (head, rest) = file.get(at..)?.split_first_chunk()?;
        let head = record::read(head)?;
        let body = rest.get(..head.n_bytes)?;
        head.is_of(body).then(|| body.to_vec())
    };
    let waiting = contents.waiting.iter().map(|found| place(found.offset));
    let waiting = waiting.map(|at| (at, body(at).unwrap_or_default())).collect();
    Found { waiting, n_torn: contents.n_torn, end: place(end) }
}

/// A file with these bodies in it, one record for each.
#[must_use]
pub fn write(bodies: &[&[u8]]) -> Vec<u8> {
    let header = Header { kind: MessageKind::Request, n_samples: 1, newest: 1 };
    let mut file = MAGIC.to_vec();
    for body in bodies {
        file.extend(record::write(&header, body).into_iter().flatten());
        file.extend_from_slice(body);
    }
    file
}
