//! Small files of pseudo file systems that every collection reads again: kept open as far as there is room.
//!
//! To open and close a cgroup's file costs about 6 us, to read it again 1 us (Linux 6.18, AMD EPYC VM, a cgroup three
//! levels deep, 2026-11-22, mean of 20,000). A kept file costs the kernel a page and its bookkeeping, less than 5 kB.

use std::{
    fs::{self, File},
    io,
    os::unix::fs::{FileExt as _, MetadataExt as _},
    path::{Path, PathBuf},
    str,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
};

use crate::{cgroup::is_vanished, source::host::cpu_files::ParseError, subject::CgroupId};

/// Files kept open at most, by all readers together: 10 MB of kernel memory. Those beyond it are opened anew.
const MAX_KEPT_FILES: usize = 2048;

/// Kept where the limit of this process is unknown: half of the usual one of 1024.
const DEFAULT_KEPT_FILES: usize = 512;

/// A `cpu.stat` has about 300 bytes; the kernel gives a file that fits in one read.
const BUFFER_BYTES: usize = 4096;

/// `EOPNOTSUPP` on most architectures of Linux: what reading a file gives where the kernel does not keep its account
/// (`psi_show()` with psi=0, before such files were left out).
const EOPNOTSUPP: i32 = 95;

/// Why a file's contents could not be had.
#[derive(Debug, thiserror::Error)]
pub enum ReadError {
    /// The file cannot be read, though its cgroup is still there.
    #[error("failed to read {}", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// The file says something else than expected.
    #[error("failed to parse {}", path.display())]
    Parse {
        /// The file.
        path: PathBuf,
        /// Where.
        #[source]
        source: ParseError,
    },
}

/// How many files may be kept open, from the text of `/proc/self/limits`: half of what the process may open.
pub(super) fn max_kept_files(limits: &str) -> usize {
    let soft_limit = limits
        .lines()
        .find_map(|line| line.strip_prefix("Max open files"))
        .and_then(|line| line.split_whitespace().next());
    match soft_limit {
        Some("unlimited") => MAX_KEPT_FILES,
        Some(number) => {
            number.parse::<usize>().map_or(DEFAULT_KEPT_FILES, |max| MAX_KEPT_FILES.min(max / 2))
        }
        None => DEFAULT_KEPT_FILES,
    }
}

/// How many more files may be kept; its clones are the same room.
#[derive(Clone, Debug)]
pub(super) struct Room(Arc<AtomicUsize>);

impl Room {
    pub(super) fn of(max_kept: usize) -> Self {
        Self(Arc::new(AtomicUsize::new(max_kept)))
    }

    /// Takes the place of one file, if there is one.
    fn take(&self) -> bool {
        let less = |n_free: usize| n_free.checked_sub(1);
        self.0.fetch_update(Ordering::Relaxed, Ordering::Relaxed, less).is_ok()
    }

    fn give_back(&self) {
        self.0.fetch_add(1, Ordering::Relaxed);
    }
}

/// Reads files with one path and one buffer: nothing is allocated per file.
#[derive(Debug)]
pub(super) struct FileReader {
    dir: PathBuf,
    buffer: Vec<u8>,
    room: Room,
}

impl FileReader {
    pub(super) fn new(room: Room) -> Self {
        Self { dir: PathBuf::new(), buffer: vec![0; BUFFER_BYTES], room }
    }

    /// Goes to a cgroup's directory.
    pub(super) fn enter(&mut self, mount_point: &Path, path: &str) {
        self.dir.clear();
        self.dir.push(mount_point);
        self.dir.push(path.trim_start_matches('/'));
    }

    /// Whether the current directory is still that cgroup's.
    pub(super) fn is_in(&self, id: CgroupId) -> bool {
        fs::metadata(&self.dir).is_ok_and(|metadata| metadata.ino() == id.0)
    }

    /// Reads a file of the current directory, or the one that was kept of it; `None` where it is not there (any more), or
    /// has no account behind it.
    pub(super) fn read<T>(
        &mut self,
        kept: &mut Option<File>,
        name: &str,
        parse: fn(&str) -> Result<T, ParseError>,
    ) -> Result<Option<T>, ReadError> {
        let n_bytes = match self.fill_buffer(kept, name) {
            Ok(n_bytes) => n_bytes,
            Err(error) => {
                self.close(kept);
                if is_vanished(&error) || error.raw_os_error() == Some(EOPNOTSUPP) {
                    return Ok(None);
                }
                return Err(ReadError::Read { path: self.dir.join(name), source: error });
            }
        };
        match text(&self.buffer, n_bytes).and_then(parse) {
            Ok(value) => Ok(Some(value)),
            Err(source) => Err(ReadError::Parse { path: self.dir.join(name), source }),
        }
    }

    /// Closes a file that was kept.
    pub(super) fn close(&mut self, kept: &mut Option<File>) {
        if kept.take().is_some() {
            self.room.give_back();
        }
    }

    fn fill_buffer(&mut self, kept: &mut Option<File>, name: &str) -> io::Result<usize> {
        // From the beginning, the kernel makes the text anew.
        if let Some(file) = kept {
            return file.read_at(&mut self.buffer, 0);
        }
        self.dir.push(name);
        let file = File::open(&self.dir);
        self.dir.pop();
        let file = file?;
        let n_bytes = file.read_at(&mut self.buffer, 0)?;
        if self.room.take() {
            *kept = Some(file);
        }
        Ok(n_bytes)
    }
}

fn text(buffer: &[u8], n_bytes: usize) -> Result<&str, ParseError> {
    // A full buffer may have cut the file.
    let bytes = buffer.get(..n_bytes).filter(|_| n_bytes < buffer.len());
    Ok(str::from_utf8(bytes.ok_or(ParseError::TooLong)?)?)
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::{FileReader, Room, max_kept_files};
    use crate::source::host::cpu_files::parse_quota_us;

    #[test]
    fn keeps_half_of_what_the_process_may_open() {
        let check = |limits: &str, expected: usize| {
            assert_eq!(max_kept_files(limits), expected, "{limits:?}");
        };
        let line = |soft: &str| {
            format!("Limit  Soft Limit  Hard Limit  Units\nMax open files  {soft}  4096  files\n")
        };
        check(&line("1024"), 512);
        check(&line("4096"), 2048);
        check(&line("1048576"), 2048);
        check(&line("unlimited"), 2048);
        check(&line("1"), 0);
        check(&line("x"), 512);
        check("Max open files", 512);
        check("", 512);
    }

    #[test]
    fn keeps_no_more_files_than_it_may() {
        let dir = tempfile::tempdir().unwrap();
        let mut reader = FileReader::new(Room::of(2));
        let mut kept = [None, None, None];
        for name in ["a", "b", "c"] {
            fs::write(dir.path().join(name), "1\n").unwrap();
        }
        reader.enter(dir.path(), "/");
        let mut read_all = |kept: &mut [Option<fs::File>; 3], expected: u64| {
            for (file, name) in kept.iter_mut().zip(["a", "b", "c"]) {
                let value = reader.read(file, name, parse_quota_us).unwrap();
                assert_eq!(value, Some(Some(expected)), "{name}");
            }
        };
        read_all(&mut kept, 1);
        assert_eq!(kept.each_ref().map(Option::is_some), [true, true, false]);
        for name in ["a", "b", "c"] {
            fs::write(dir.path().join(name), "2\n").unwrap();
        }
        read_all(&mut kept, 2);
        // Closing makes room.
        reader.close(&mut kept[0]);
        reader.close(&mut kept[0]);
        reader.read(&mut kept[2], "c", parse_quota_us).unwrap();
        assert_eq!(kept.each_ref().map(Option::is_some), [false, true, true]);
        assert!(reader.read(&mut None, "absent", parse_quota_us).unwrap().is_none());
    }
}
