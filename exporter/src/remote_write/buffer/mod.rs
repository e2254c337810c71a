//! What was not sent yet, on disk: requests in files, oldest first, within a limit; it outlives the process and `kill -9`.
//! Everything here blocks.
//!
//! A request is written before it is sent, and marked in place once the receiver has taken it, so that each is sent once
//! whenever the process ends; only what was under way then may be sent twice. A file is removed when all of it is done.
//! The kernel writes to the disk when it likes: a machine that loses its power loses the last seconds.

#[cfg(any(test, fuzzing))]
pub mod fuzzing;
mod record;
mod segment;

#[cfg(test)]
mod tests;

use std::{
    collections::BTreeMap,
    fs::{self, File, TryLockError},
    io,
    path::PathBuf,
};

pub(super) use self::record::Header;
use self::segment::Segment;
use crate::config::remote_write::BufferConfig;

/// A file gets no larger than this, nor than a sixteenth of the limit.
const MAX_SEGMENT_BYTES: u64 = 16 << 20;
/// Most requests that wait: each takes some hundred bytes of memory.
const MAX_RECORDS: usize = 1 << 17;

/// Where a request is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Place {
    /// The file.
    pub(super) segment: u64,
    pub(super) offset: u64,
}

/// A folder of requests.
#[derive(Debug)]
pub(super) struct Buffer {
    directory: PathBuf,
    size_limit: u64,
    segments: BTreeMap<u64, Segment>,
    /// Held as long as the folder is this process'.
    _lock: File,
}

/// What an earlier process has left.
#[derive(Debug, Default)]
pub(super) struct Recovered {
    /// Oldest first.
    pub(super) waiting: Vec<(Place, Header)>,
    /// Records that were not as they were written, and are left out.
    pub(super) n_torn: usize,
}

/// How it stands with the folder of a buffer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FolderState {
    /// A Podmeter that runs has its buffer there.
    InUse,
    /// It can be written to.
    Writable {
        /// Bytes that fit: those that are free on its disk, and what the buffer has there already.
        room: u64,
    },
}

/// Why there is no buffer, or why it does not take a request.
#[derive(Debug, thiserror::Error)]
pub enum BufferError {
    /// The folder cannot be used.
    #[error("cannot use the buffer in {directory}: it must be a folder that Podmeter may write to")]
    Directory {
        /// The folder.
        directory: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// Another process has it.
    #[error("the buffer in {directory} is another process': give each its own `buffer.directory`")]
    InUse {
        /// The folder.
        directory: PathBuf,
    },
    /// A file cannot be written or read.
    #[error("cannot write to the buffer in {directory}: is its disk full?")]
    Write {
        /// The folder.
        directory: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// A request is larger than the whole buffer.
    #[error("a request has more bytes than `buffer.size_limit` leaves room for")]
    TooLarge,
}

/// Makes the folder if need be, and takes it.
fn take(config: &BufferConfig) -> Result<File, BufferError> {
    let directory = config.directory.clone();
    let on_error = |source| BufferError::Directory { directory: config.directory.clone(), source };
    fs::create_dir_all(&directory).map_err(on_error)?;
    let lock = File::create(directory.join("lock")).map_err(on_error)?;
    match lock.try_lock() {
        Ok(()) => Ok(lock),
        Err(TryLockError::WouldBlock) => Err(BufferError::InUse { directory }),
        Err(TryLockError::Error(source)) => Err(on_error(source)),
    }
}

/// Tries whether a buffer can be in its folder, which is made if need be; what is in it stays as it is.
pub fn try_out(config: &BufferConfig) -> Result<FolderState, BufferError> {
    let _lock = match take(config) {
        Err(BufferError::InUse { .. }) => return Ok(FolderState::InUse),
        taken => taken?,
    };
    let directory = &config.directory;
    let on_error = |source| BufferError::Write { directory: directory.clone(), source };
    let file = directory.join("check");
    let written = fs::write(&file, [0; 4096]);
    // Also where a part of it was written, but not instead of the reason why not all.
    let removed = fs::remove_file(&file);
    written.and(removed).map_err(on_error)?;
    let disk = rustix::fs::statvfs(directory).map_err(|error| on_error(error.into()))?;
    let mut room = disk.f_bavail.saturating_mul(disk.f_frsize);
    for (_, path) in Segment::list(directory).map_err(on_error)? {
        room = room.saturating_add(fs::metadata(path).map_err(on_error)?.len());
    }
    Ok(FolderState::Writable { room })
}

impl Buffer {
    /// Takes the folder, makes it if need be, and finds what is left in it.
    pub(super) fn open(config: &BufferConfig) -> Result<(Self, Recovered), BufferError> {
        let lock = take(config)?;
        let directory = config.directory.clone();
        let on_error =
            |source| BufferError::Directory { directory: config.directory.clone(), source };
        let mut recovered = Recovered::default();
        let mut segments = BTreeMap::new();
        for (number, path) in Segment::list(&directory).map_err(on_error)? {
            let (segment, contents) = Segment::open(path).map_err(on_error)?;
            recovered.n_torn += contents.n_torn;
            if contents.waiting.is_empty() {
                segment.remove().map_err(on_error)?;
                continue;
            }
            let place = |offset| Place { segment: number, offset };
            let waiting = contents.waiting.into_iter();
            recovered.waiting.extend(waiting.map(|found| (place(found.offset), found.header)));
            segments.insert(number, segment);
        }
        Ok((Self { directory, size_limit: config.size_limit, segments, _lock: lock }, recovered))
    }

    /// Writes a request, and gives its place; adds the files to `dropped` that had to go for it, the oldest.
    ///
    /// What was written of one that fails is taken back.
    pub(super) fn append(
        &mut self,
        header: &Header,
        body: &[u8],
        dropped: &mut Vec<u64>,
    ) -> Result<Place, BufferError> {
        let head = record::write(header, body).ok_or(BufferError::TooLarge)?;
        let n_bytes = (head.len() + body.len()) as u64;
        if n_bytes > self.size_limit / 4 {
            return Err(BufferError::TooLarge);
        }
        let on_error = {
            let directory = self.directory.clone();
            move |source| BufferError::Write { directory, source }
        };
        let segment_bytes = MAX_SEGMENT_BYTES.min(self.size_limit / 16);
        let last = self.segments.last_key_value();
        let number = match last {
            Some((number, segment)) if segment.n_bytes < segment_bytes => *number,
            Some((number, _)) => number + 1,
            None => 0,
        };
        if !self.segments.contains_key(&number) {
            // The file before had to stay for as long as it was the last one.
            self.remove_done().map_err(on_error.clone())?;
        }
        while self.n_bytes() + n_bytes + 64 > self.size_limit || self.n_waiting() >= MAX_RECORDS {
            let Some((oldest, segment)) = self.segments.pop_first() else { break };
            dropped.push(oldest);
            segment.remove().map_err(on_error.clone())?;
        }
        if !self.segments.contains_key(&number) {
            let segment = Segment::create(&self.directory, number).map_err(on_error.clone())?;
            self.segments.insert(number, segment);
        }
        let Some(segment) = self.segments.get_mut(&number) else {
            return Err(BufferError::TooLarge);
        };
        let mut appended = segment.append(&head, body);
        if appended.is_err() && segment.n_waiting == 0 {
            // It stays while it is the last one, and what it holds may be what its disk lacks.
            appended = segment.clear().and_then(|()| segment.append(&head, body));
        }
        let offset = appended.map_err(on_error)?;
        Ok(Place { segment: number, offset })
    }

    /// The body of a request.
    pub(super) fn read(&self, place: Place) -> io::Result<Vec<u8>> {
        let segment = self.segments.get(&place.segment);
        segment.ok_or(io::ErrorKind::NotFound)?.read(place.offset)
    }

    /// Notes that a request is done; of a file that is gone there is nothing to note.
    pub(super) fn mark_done(&mut self, place: Place) -> io::Result<()> {
        let is_last =
            self.segments.last_key_value().is_some_and(|(number, _)| *number == place.segment);
        let Some(segment) = self.segments.get_mut(&place.segment) else {
            return Ok(());
        };
        let marked = segment.mark_done(place.offset);
        if segment.n_waiting == 0
            && !is_last
            && let Some(segment) = self.segments.remove(&place.segment)
        {
            segment.remove()?;
        }
        marked
    }

    /// Removes the files that have nothing that waits.
    fn remove_done(&mut self) -> io::Result<()> {
        let is_done = |_number: &u64, segment: &mut Segment| segment.n_waiting == 0;
        self.segments.extract_if(.., is_done).try_for_each(|(_, segment)| segment.remove())
    }

    /// How many bytes the files have.
    pub(super) fn n_bytes(&self) -> u64 {
        self.segments.values().map(|segment| segment.n_bytes).sum()
    }

    fn n_waiting(&self) -> usize {
        self.segments.values().map(|segment| segment.n_waiting).sum()
    }
}
