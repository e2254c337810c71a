//! Small files that others put down for Podmeter: read with a bound, certificates and keys in PEM, and whether a file
//! has changed since. Everything here blocks.

use std::{
    fs, io,
    os::unix::fs::MetadataExt as _,
    path::{Path, PathBuf},
};

use rustls::{
    RootCertStore,
    pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject as _},
};

/// Largest file of certificates; all public authorities together have a quarter of a megabyte.
const MAX_PEM_BYTES: u64 = 4 << 20;

/// Why a file gives no certificate or key.
#[derive(Debug, thiserror::Error)]
pub enum PemError {
    /// It cannot be read.
    #[error("cannot read {path}, which the configuration names")]
    Read {
        /// The file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// It has nothing in it that could be used.
    #[error("{path} has no {what} in PEM in it")]
    Empty {
        /// The file.
        path: PathBuf,
        /// What was looked for.
        what: &'static str,
    },
    /// It has a certificate in it by which no others can be checked.
    #[error("{path} has a certificate in it that is no authority's")]
    Authority {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        source: rustls::Error,
    },
}

/// What files looked like at one moment: another file under the same name, as a mounted Secret or `ConfigMap` gets it,
/// is a change, too.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Stamp(Vec<Option<Look>>);

/// Device, inode, seconds and nanoseconds of the last change, and length in bytes.
type Look = (u64, u64, i64, i64, u64);

impl Stamp {
    /// Looks at the files now; one that cannot be seen is remembered as such.
    #[must_use]
    pub fn of<'a>(paths: impl IntoIterator<Item = &'a PathBuf>) -> Self {
        let look = |path: &PathBuf| {
            let seen = fs::metadata(path).ok()?;
            Some((seen.dev(), seen.ino(), seen.ctime(), seen.ctime_nsec(), seen.len()))
        };
        Self(paths.into_iter().map(look).collect())
    }
}

/// The bytes of a file that has no more than `max_bytes`.
pub fn read(path: &Path, max_bytes: u64) -> io::Result<Vec<u8>> {
    check_length(path, max_bytes)?;
    fs::read(path)
}

/// The text of a file that has no more than `max_bytes`.
pub fn read_text(path: &Path, max_bytes: u64) -> io::Result<String> {
    check_length(path, max_bytes)?;
    fs::read_to_string(path)
}

fn check_length(path: &Path, max_bytes: u64) -> io::Result<()> {
    if fs::metadata(path)?.len() > max_bytes {
        return Err(io::ErrorKind::FileTooLarge.into());
    }
    Ok(())
}

/// All certificates of a file, of which there is at least one.
pub fn certificates(path: &Path) -> Result<Vec<CertificateDer<'static>>, PemError> {
    let pem = read_pem(path)?;
    let found: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(&pem).collect();
    let empty = || PemError::Empty { path: path.into(), what: "certificate" };
    found.ok().filter(|found| !found.is_empty()).ok_or_else(empty)
}

/// The certificates of a file as authorities that others are signed by.
pub fn authorities(path: &Path) -> Result<RootCertStore, PemError> {
    let mut roots = RootCertStore::empty();
    for certificate in certificates(path)? {
        let refused = |source| PemError::Authority { path: path.into(), source };
        roots.add(certificate).map_err(refused)?;
    }
    Ok(roots)
}

/// The private key of a file.
pub fn private_key(path: &Path) -> Result<PrivateKeyDer<'static>, PemError> {
    PrivateKeyDer::from_pem_slice(&read_pem(path)?)
        .map_err(|_none| PemError::Empty { path: path.into(), what: "private key" })
}

fn read_pem(path: &Path) -> Result<Vec<u8>, PemError> {
    read(path, MAX_PEM_BYTES).map_err(|source| PemError::Read { path: path.into(), source })
}

#[cfg(test)]
mod tests {
    use std::{fs, os::unix::fs::symlink};

    use super::{Stamp, read};

    #[test]
    fn a_file_that_is_too_large_is_not_read() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a");
        fs::write(&path, "12345").unwrap();
        assert_eq!(read(&path, 5).unwrap(), b"12345");
        assert_eq!(read(&path, 4).unwrap_err().kind(), std::io::ErrorKind::FileTooLarge);
    }

    #[test]
    fn another_file_under_the_same_name_is_a_change() {
        let folder = tempfile::tempdir().unwrap();
        let path = |name: &str| folder.path().join(name);
        fs::write(path("old"), "same").unwrap();
        fs::write(path("new"), "same").unwrap();
        symlink(path("old"), path("link")).unwrap();
        let files = [path("link")];
        let before = Stamp::of(&files);
        assert_eq!(before, Stamp::of(&files));
        symlink(path("new"), path("next")).unwrap();
        fs::rename(path("next"), path("link")).unwrap();
        let after = Stamp::of(&files);
        assert_ne!(before, after);
        fs::remove_file(path("link")).unwrap();
        assert_ne!(after, Stamp::of(&files));
    }
}
