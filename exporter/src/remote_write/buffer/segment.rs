//! One file of the buffer: records, one behind the other, which are only ever added. Everything here blocks.

use std::{
    fs::{self, File, OpenOptions},
    io::{self, BufReader, Read},
    os::unix::fs::FileExt as _,
    path::{Path, PathBuf},
};

use super::record::{self, DONE, HEADER_BYTES, Header};

/// How each file begins: whose it is, and in which format.
pub(super) const MAGIC: &[u8; 8] = b"PODMRW\0\x01";

/// How the names of the files begin; their number follows.
const PREFIX: &str = "segment-";

/// One file.
#[derive(Debug)]
pub(super) struct Segment {
    file: File,
    path: PathBuf,
    pub(super) n_bytes: u64,
    /// How many records wait.
    pub(super) n_waiting: usize,
}

/// A record that was found in a file and is not done.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Found {
    pub(super) offset: u64,
    pub(super) header: Header,
}

/// What a file of an earlier process has in it.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Contents {
    pub(super) waiting: Vec<Found>,
    /// Records that are not as they were written.
    pub(super) n_torn: usize,
}

impl Segment {
    /// Makes a new file.
    pub(super) fn create(directory: &Path, number: u64) -> io::Result<Self> {
        let path = directory.join(format!("{PREFIX}{number:020}"));
        let file = OpenOptions::new().read(true).write(true).create_new(true).open(&path)?;
        if let Err(error) = file.write_all_at(MAGIC, 0) {
            // An empty file would be in the way of the next try.
            fs::remove_file(&path)?;
            return Err(error);
        }
        Ok(Self { file, path, n_bytes: MAGIC.len() as u64, n_waiting: 0 })
    }

    /// Opens a file of an earlier process, and cuts off what is torn at its end.
    pub(super) fn open(path: PathBuf) -> io::Result<(Self, Contents)> {
        let file = OpenOptions::new().read(true).write(true).open(&path)?;
        let n_bytes = file.metadata()?.len();
        let (contents, end) = read_all(BufReader::with_capacity(1 << 20, &file), n_bytes)?;
        file.set_len(end)?;
        let n_waiting = contents.waiting.len();
        Ok((Self { file, path, n_bytes: end, n_waiting }, contents))
    }

    /// The files of a folder with their numbers, oldest first.
    pub(super) fn list(directory: &Path) -> io::Result<Vec<(u64, PathBuf)>> {
        let mut segments = Vec::new();
        for file in fs::read_dir(directory)? {
            let file = file?;
            let name = file.file_name();
            let number = name.to_str().and_then(|name| name.strip_prefix(PREFIX)?.parse().ok());
            segments.extend(number.map(|number| (number, file.path())));
        }
        segments.sort_unstable();
        Ok(segments)
    }

    /// Adds a record, and gives its place; on an error the file is as it was.
    pub(super) fn append(&mut self, header: &[u8; HEADER_BYTES], body: &[u8]) -> io::Result<u64> {
        let offset = self.n_bytes;
        let written = self
            .file
            .write_all_at(body, offset + HEADER_BYTES as u64)
            // Last, so that a header never stands before a body that is not there.
            .and_then(|()| self.file.write_all_at(header, offset));
        if let Err(error) = written {
            self.file.set_len(offset)?;
            return Err(error);
        }
        self.n_bytes = offset + (HEADER_BYTES + body.len()) as u64;
        self.n_waiting += 1;
        Ok(offset)
    }

    /// The body of a record.
    pub(super) fn read(&self, offset: u64) -> io::Result<Vec<u8>> {
        let mut header = [0; HEADER_BYTES];
        self.file.read_exact_at(&mut header, offset)?;
        let bad = || io::Error::from(io::ErrorKind::InvalidData);
        let header = record::read(&header).ok_or_else(bad)?;
        let mut body = vec![0; header.n_bytes];
        self.file.read_exact_at(&mut body, offset + HEADER_BYTES as u64)?;
        if header.is_of(&body) { Ok(body) } else { Err(bad()) }
    }

    /// Writes that a record is done.
    pub(super) fn mark_done(&mut self, offset: u64) -> io::Result<()> {
        self.n_waiting = self.n_waiting.saturating_sub(1);
        self.file.write_all_at(&[DONE], offset)
    }

    /// Forgets all records, which must be done.
    pub(super) fn clear(&mut self) -> io::Result<()> {
        let n_bytes = MAGIC.len() as u64;
        self.file.set_len(n_bytes)?;
        self.n_bytes = n_bytes;
        Ok(())
    }

    /// Removes the file.
    pub(super) fn remove(self) -> io::Result<()> {
        fs::remove_file(&self.path)
    }
}

/// Reads all records of a file of so many bytes, and where the last one ends behind which there may be another.
pub(super) fn read_all(mut reader: impl Read, n_bytes: u64) -> io::Result<(Contents, u64)> {
    let mut contents = Contents::default();
    let mut magic = [0; MAGIC.len()];
    if n_bytes < MAGIC.len() as u64 || reader.read_exact(&mut magic).is_err() || magic != *MAGIC {
        contents.n_torn = usize::from(n_bytes > 0);
        return Ok((contents, 0));
    }
    let mut offset = MAGIC.len() as u64;
    let mut body = Vec::new();
    while offset < n_bytes {
        let left = n_bytes - offset;
        let mut header = [0; HEADER_BYTES];
        if left < HEADER_BYTES as u64 {
            contents.n_torn += 1;
            break;
        }
        reader.read_exact(&mut header)?;
        let read = record::read(&header);
        let Some(read) = read.filter(|read| (HEADER_BYTES + read.n_bytes) as u64 <= left) else {
            // Nobody knows where the next one begins.
            contents.n_torn += 1;
            break;
        };
        body.resize(read.n_bytes, 0);
        reader.read_exact(&mut body)?;
        if !read.is_of(&body) {
            contents.n_torn += 1;
        } else if !read.is_done {
            contents.waiting.push(Found { offset, header: read.header });
        }
        offset += (HEADER_BYTES + read.n_bytes) as u64;
    }
    Ok((contents, offset))
}
