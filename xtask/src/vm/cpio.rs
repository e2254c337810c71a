//! A writer of `newc` cpio archives, the format of an initramfs.
//!
//! The format: <https://www.kernel.org/doc/html/latest/driver-api/early-userspace/buffer-format.html>.

use anyhow::{Context as _, Result};

const DIRECTORY: u32 = 0o040_000;
const FILE: u32 = 0o100_000;
/// Headers and contents begin at multiples of this.
const ALIGNMENT: usize = 4;

/// An archive in the making.
#[derive(Debug, Default)]
pub(crate) struct Archive {
    bytes: Vec<u8>,
    n_entries: u32,
}

impl Archive {
    /// Adds a folder; its parents must be there before.
    pub(crate) fn directory(&mut self, path: &str) -> Result<()> {
        self.entry(path, DIRECTORY | 0o755, &[])
    }

    /// Adds a file that can be executed.
    pub(crate) fn executable(&mut self, path: &str, contents: &[u8]) -> Result<()> {
        self.entry(path, FILE | 0o755, contents)
    }

    /// The finished archive.
    pub(crate) fn finish(mut self) -> Result<Vec<u8>> {
        self.entry("TRAILER!!!", 0, &[])?;
        Ok(self.bytes)
    }

    fn entry(&mut self, path: &str, mode: u32, contents: &[u8]) -> Result<()> {
        self.n_entries += 1;
        let size = u32::try_from(contents.len()).with_context(|| format!("{path} is over 4 GB"))?;
        let name_size = u32::try_from(path.len() + 1).context("a path is too long")?;
        let n_links = 1;
        let fields = [self.n_entries, mode, 0, 0, n_links, 0, size, 0, 0, 0, 0, name_size, 0];
        self.bytes.extend_from_slice(b"070701");
        for field in fields {
            self.bytes.extend_from_slice(format!("{field:08X}").as_bytes());
        }
        self.bytes.extend_from_slice(path.as_bytes());
        self.bytes.push(0);
        self.align();
        self.bytes.extend_from_slice(contents);
        self.align();
        Ok(())
    }

    fn align(&mut self) {
        self.bytes.resize(self.bytes.len().next_multiple_of(ALIGNMENT), 0);
    }
}

#[cfg(test)]
mod tests {
    use super::Archive;

    /// Reads an archive back: (path, mode, contents).
    fn read(mut bytes: &[u8]) -> Vec<(String, u32, Vec<u8>)> {
        let mut entries = Vec::new();
        loop {
            assert_eq!(&bytes[..6], b"070701");
            let field = |index: usize| {
                let start = 6 + 8 * index;
                let text = std::str::from_utf8(&bytes[start..start + 8]).unwrap();
                u32::from_str_radix(text, 16).unwrap()
            };
            let (mode, size, name_size) = (field(1), field(6) as usize, field(11) as usize);
            let name = String::from_utf8(bytes[110..110 + name_size - 1].to_vec()).unwrap();
            assert_eq!(bytes[110 + name_size - 1], 0);
            let start = (110 + name_size).next_multiple_of(4);
            let contents = bytes[start..start + size].to_vec();
            bytes = &bytes[(start + size).next_multiple_of(4)..];
            if name == "TRAILER!!!" {
                assert!(bytes.is_empty());
                return entries;
            }
            entries.push((name, mode, contents));
        }
    }

    #[test]
    fn what_is_written_can_be_read() {
        let mut archive = Archive::default();
        archive.directory("bin").unwrap();
        for size in 0..9 {
            archive.executable(&format!("bin/{}", "x".repeat(size + 1)), &vec![7; size]).unwrap();
        }
        let entries = read(&archive.finish().unwrap());
        assert_eq!(entries.len(), 10);
        assert_eq!(entries[0], ("bin".into(), 0o040_755, Vec::new()));
        for (size, entry) in entries[1..].iter().enumerate() {
            assert_eq!(*entry, (format!("bin/{}", "x".repeat(size + 1)), 0o100_755, vec![7; size]));
        }
    }
}
