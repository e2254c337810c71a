//! Disks of a test: what the kernel counts for a cgroup, and reading and writing past the page cache.

use std::{
    fs::{self, File, OpenOptions},
    io::{self, Write as _},
    os::unix::fs::{FileExt as _, MetadataExt as _, OpenOptionsExt as _},
    path::{Path, PathBuf},
};

use rustix::fs::OFlags;
use tempfile::NamedTempFile;

use crate::cgroup::TestCgroup;

/// A whole disk.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Disk {
    name: String,
    numbers: String,
}

/// What the kernel counted of a disk in a cgroup.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct IoStat {
    /// Bytes read.
    pub n_bytes_read: u64,
    /// Bytes written.
    pub n_bytes_written: u64,
    /// Bytes discarded.
    pub n_bytes_discarded: u64,
    /// Bios that read.
    pub n_reads: u64,
    /// Bios that wrote.
    pub n_writes: u64,
    /// Bios that discarded.
    pub n_discards: u64,
}

impl Disk {
    /// The disk of that name, if there is one.
    #[must_use]
    pub fn find(name: &str) -> Option<Self> {
        let numbers = fs::read_to_string(format!("/sys/block/{name}/dev")).ok()?;
        Some(Self { name: name.into(), numbers: numbers.trim().into() })
    }

    /// The first disk that the kernel calls SCSI.
    #[must_use]
    pub fn find_scsi() -> Option<Self> {
        let names = fs::read_dir("/sys/block").ok()?.flatten().map(|entry| entry.file_name());
        let mut names: Vec<_> = names.filter_map(|name| name.into_string().ok()).collect();
        names.sort_unstable();
        Self::find(names.iter().find(|name| name.starts_with("sd"))?)
    }

    /// The disk that a file lies on, if it lies on one.
    #[must_use]
    pub fn of_file(file: &File) -> Option<Self> {
        let dev = file.metadata().ok()?.dev();
        let numbers = format!("{}:{}", rustix::fs::major(dev), rustix::fs::minor(dev));
        let dir = fs::canonicalize(Path::new("/sys/dev/block").join(numbers)).ok()?;
        // A partition's directory lies in its disk's.
        let disk = if dir.join("partition").exists() { dir.parent()? } else { &dir };
        Self::find(disk.file_name()?.to_str()?)
    }

    /// Its name.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Its device node.
    #[must_use]
    pub fn node(&self) -> PathBuf {
        Path::new("/dev").join(&self.name)
    }

    /// Chooses how its requests are ordered; fails where the kernel does not have that scheduler, or the disk none.
    pub fn set_scheduler(&self, scheduler: &str) -> io::Result<()> {
        fs::write(format!("/sys/block/{}/queue/scheduler", self.name), scheduler)
    }
}

impl IoStat {
    /// Makes the kernel count, where it does so only when asked: on cgroup v1 it counts for the throttling of a disk, and
    /// since 6.10 only once somebody has set a limit.
    pub fn begin(cgroup: &TestCgroup, disk: &Disk) {
        if !cgroup.hierarchy().is_v2() {
            let no_limit = format!("{} {}", disk.numbers, u64::from(u32::MAX) << 16);
            cgroup.write("blkio.throttle.read_bps_device", &no_limit);
        }
    }

    /// What the kernel counted of a disk in a cgroup.
    #[must_use]
    pub fn of(cgroup: &TestCgroup, disk: &Disk) -> Self {
        let mut stat = Self::default();
        let mut take = |file: &str, names: [&str; 3], is_bytes: bool| {
            let fields = if is_bytes {
                [&mut stat.n_bytes_read, &mut stat.n_bytes_written, &mut stat.n_bytes_discarded]
            } else {
                [&mut stat.n_reads, &mut stat.n_writes, &mut stat.n_discards]
            };
            let text = cgroup.read(file);
            let of_disk = |line| str::strip_prefix(str::strip_prefix(line, &disk.numbers)?, " ");
            let lines: Vec<&str> = text.lines().filter_map(of_disk).collect();
            // `8:0 rbytes=0 wbytes=0 …` on v2, `8:0 Read 0` on v1.
            let words: Vec<&str> = lines.iter().flat_map(|line| line.split([' ', '='])).collect();
            for (name, field) in names.into_iter().zip(fields) {
                let found = words.iter().zip(words.iter().skip(1)).find(|(word, _)| **word == name);
                *field = found.map_or(0, |(_, value)| value.parse().expect("a number"));
            }
        };
        if cgroup.hierarchy().is_v2() {
            take("io.stat", ["rbytes", "wbytes", "dbytes"], true);
            take("io.stat", ["rios", "wios", "dios"], false);
        } else {
            let names = ["Read", "Write", "Discard"];
            take("blkio.throttle.io_service_bytes", names, true);
            take("blkio.throttle.io_serviced", names, false);
        }
        stat
    }
}

/// A file on a disk for a test to read and overwrite, removed at the end.
#[derive(Debug)]
pub struct ScratchFile {
    disk: Disk,
    file: NamedTempFile,
}

impl ScratchFile {
    /// Makes one in a folder, of so many bytes that are on its disk already, or says why there can be no direct IO to it.
    pub fn new_in(dir: &Path, n_bytes: usize) -> Result<Self, String> {
        let mut file = NamedTempFile::new_in(dir).expect("a temporary file");
        file.write_all(&vec![0; n_bytes]).expect("there is room for it");
        file.as_file().sync_all().expect("its disk takes it");
        let place = dir.display();
        let disk = Disk::of_file(file.as_file()).ok_or(format!("{place} lies on no disk"))?;
        DirectFile::open(file.path())
            .map_err(|error| format!("no direct IO where {place} lies: {error}"))?;
        Ok(Self { disk, file })
    }

    /// The disk that it lies on.
    #[must_use]
    pub fn disk(&self) -> &Disk {
        &self.disk
    }

    /// Where it is.
    #[must_use]
    pub fn path(&self) -> &Path {
        self.file.path()
    }
}

/// A file or disk whose reads and writes go past the page cache, each as one bio.
#[derive(Debug)]
pub struct DirectFile {
    file: File,
    buffer: Vec<u8>,
}

/// What memory and offsets are aligned to: the block size of any disk.
const ALIGNMENT: usize = 4096;

/// Most bytes of one read or write.
const MAX_BYTES: usize = 64 << 10;

impl DirectFile {
    /// Opens it; fails where its file system cannot go past the page cache.
    pub fn open(path: &Path) -> io::Result<Self> {
        let flags = i32::try_from(OFlags::DIRECT.bits()).expect("a flag of open");
        let file = OpenOptions::new().read(true).write(true).custom_flags(flags).open(path)?;
        Ok(Self { file, buffer: vec![0x5a; MAX_BYTES + ALIGNMENT] })
    }

    /// The file.
    #[must_use]
    pub fn file(&self) -> &File {
        &self.file
    }

    /// Reads so many bytes.
    pub fn read(&mut self, n_bytes: usize, offset: u64) -> io::Result<()> {
        let start = self.start();
        let buffer = self.buffer.get_mut(start..start + n_bytes).expect("it fits");
        self.file.read_exact_at(buffer, offset)
    }

    /// Writes so many bytes.
    pub fn write(&self, n_bytes: usize, offset: u64) -> io::Result<()> {
        let start = self.start();
        let buffer = self.buffer.get(start..start + n_bytes).expect("it fits");
        self.file.write_all_at(buffer, offset)
    }

    fn start(&self) -> usize {
        self.buffer.as_ptr().align_offset(ALIGNMENT)
    }
}
