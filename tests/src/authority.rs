//! A certificate authority in a folder, and what it signs for servers and clients of tests.

use std::path::{Path, PathBuf};

use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, KeyPair};

use crate::tools::write;

/// An authority; its own certificate is `ca.crt` in the folder.
#[derive(Debug)]
pub struct Authority {
    folder: PathBuf,
    issuer: CertifiedIssuer<'static, KeyPair>,
}

impl Authority {
    /// Makes one.
    #[must_use]
    pub fn new(folder: &Path) -> Self {
        let mut params = CertificateParams::default();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let key = KeyPair::generate().expect("a key can be made");
        let issuer = CertifiedIssuer::self_signed(params, key).expect("it signs itself");
        drop(write(folder, "ca.crt", &issuer.pem()));
        Self { folder: folder.into(), issuer }
    }

    /// The file with its certificate.
    #[must_use]
    pub fn file(&self) -> PathBuf {
        self.folder.join("ca.crt")
    }

    /// Writes `<file_name>.crt` and `<file_name>.key` for a server or client under that name or address.
    pub fn sign(&self, file_name: &str, name: &str) {
        let params = CertificateParams::new([name.to_owned()]).expect("the name is valid");
        let key = KeyPair::generate().expect("a key can be made");
        let certificate = params.signed_by(&key, &self.issuer).expect("the authority signs");
        drop(write(&self.folder, &format!("{file_name}.crt"), &certificate.pem()));
        drop(write(&self.folder, &format!("{file_name}.key"), &key.serialize_pem()));
    }
}
