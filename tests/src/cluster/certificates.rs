//! The keys of a cluster: a certificate authority, what it signs, and the key that signs the tokens of ServiceAccounts.

use std::path::{Path, PathBuf};

use rcgen::{
    BasicConstraints, CertificateParams, CertifiedIssuer, DnType, ExtendedKeyUsagePurpose, IsCa,
    KeyPair, KeyUsagePurpose,
};

use crate::tools::write;

/// A certificate and its key, as files.
#[derive(Clone, Debug)]
pub(super) struct Pair {
    pub(super) certificate: PathBuf,
    pub(super) key: PathBuf,
}

/// What the tokens of ServiceAccounts are checked and signed with, as files.
#[derive(Clone, Debug)]
pub(super) struct TokenKeys {
    pub(super) public: PathBuf,
    pub(super) private: PathBuf,
}

/// All of a cluster's.
#[derive(Debug)]
pub(super) struct Certificates {
    dir: PathBuf,
    authority: CertifiedIssuer<'static, KeyPair>,
    ca_file: PathBuf,
    token_keys: TokenKeys,
}

impl Certificates {
    /// Makes the authority, and the key for tokens.
    pub(super) fn make(dir: &Path) -> Self {
        let mut params = CertificateParams::default();
        params.distinguished_name.push(DnType::CommonName, "podmeter test authority");
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::DigitalSignature];
        let authority = CertifiedIssuer::self_signed(params, new_key()).expect("it signs itself");
        let ca_file = write(dir, "ca.crt", &authority.pem());
        let tokens = new_key();
        let token_keys = TokenKeys {
            public: write(dir, "tokens.pub", &tokens.public_key_pem()),
            private: write(dir, "tokens.key", &tokens.serialize_pem()),
        };
        Self { dir: dir.into(), authority, ca_file, token_keys }
    }

    pub(super) fn ca_file(&self) -> &Path {
        &self.ca_file
    }

    pub(super) fn token_keys(&self) -> &TokenKeys {
        &self.token_keys
    }

    /// A certificate for a server under these names and addresses.
    pub(super) fn server(&self, file_name: &str, names: &[&str]) -> Pair {
        let names: Vec<String> = names.iter().map(|&name| name.into()).collect();
        let params = CertificateParams::new(names).expect("the names are valid");
        self.sign(file_name, params, ExtendedKeyUsagePurpose::ServerAuth)
    }

    /// A certificate by which the API server knows a user and, maybe, the group that it is in.
    pub(super) fn client(&self, file_name: &str, user: &str, group: Option<&str>) -> Pair {
        let mut params = CertificateParams::default();
        params.distinguished_name.push(DnType::CommonName, user);
        if let Some(group) = group {
            params.distinguished_name.push(DnType::OrganizationName, group);
        }
        self.sign(file_name, params, ExtendedKeyUsagePurpose::ClientAuth)
    }

    fn sign(
        &self,
        file_name: &str,
        mut params: CertificateParams,
        usage: ExtendedKeyUsagePurpose,
    ) -> Pair {
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        params.extended_key_usages = vec![usage];
        let key = new_key();
        let certificate = params.signed_by(&key, &self.authority).expect("the authority signs");
        Pair {
            certificate: write(&self.dir, &format!("{file_name}.crt"), &certificate.pem()),
            key: write(&self.dir, &format!("{file_name}.key"), &key.serialize_pem()),
        }
    }
}

fn new_key() -> KeyPair {
    KeyPair::generate().expect("a key is generated")
}
