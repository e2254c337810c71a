//! TLS towards a target: whom to trust, who we are, and when those files changed.

use std::sync::Arc;

use rustls::{
    ClientConfig as RustlsConfig, DigitallySignedStruct, RootCertStore, SignatureScheme,
    client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier},
    crypto::{self, WebPkiSupportedAlgorithms},
    pki_types::{CertificateDer, ServerName, UnixTime},
};

use super::config::{ClientCertificate, TlsConfig, Verification};
use crate::files::{self, PemError, Stamp};

/// Why there is no TLS.
#[derive(Debug, thiserror::Error)]
pub enum TlsFilesError {
    /// A file that `tls_config` names.
    #[error(transparent)]
    Pem(#[from] PemError),
    /// The key does not fit, or the certificate is none.
    #[error("the certificates that tls_config names cannot be used")]
    Refused(#[from] rustls::Error),
    /// There is no list of authorities on this system.
    #[error("this system has no list of trusted authorities: set tls_config.ca_file")]
    NoRoots,
}

/// What the files of the configuration look like now; this blocks.
pub(super) fn stamp(config: &TlsConfig) -> Stamp {
    let client = config.client.iter().flat_map(|own| [&own.cert_file, &own.key_file]);
    Stamp::of(config.ca_file.iter().chain(client))
}

/// Reads the files; this blocks.
pub(super) fn build(config: &TlsConfig) -> Result<RustlsConfig, TlsFilesError> {
    let provider = Arc::new(crypto::ring::default_provider());
    let builder = RustlsConfig::builder_with_provider(Arc::clone(&provider))
        .with_safe_default_protocol_versions()?;
    let builder = match config.verification {
        Verification::Required => builder.with_root_certificates(roots(config)?),
        Verification::Skipped => {
            let verifier = Arc::new(BelieveAnyone(provider.signature_verification_algorithms));
            builder.dangerous().with_custom_certificate_verifier(verifier)
        }
    };
    let Some(ClientCertificate { cert_file, key_file }) = &config.client else {
        return Ok(builder.with_no_client_auth());
    };
    let chain = files::certificates(cert_file)?;
    Ok(builder.with_client_auth_cert(chain, files::private_key(key_file)?)?)
}

/// For a target without TLS, whose connector takes a configuration all the same.
pub(super) fn build_unused() -> Result<RustlsConfig, TlsFilesError> {
    let provider = Arc::new(crypto::ring::default_provider());
    let builder =
        RustlsConfig::builder_with_provider(provider).with_safe_default_protocol_versions()?;
    Ok(builder.with_root_certificates(RootCertStore::empty()).with_no_client_auth())
}

fn roots(config: &TlsConfig) -> Result<RootCertStore, TlsFilesError> {
    let Some(ca_file) = &config.ca_file else {
        let mut roots = RootCertStore::empty();
        roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
        return if roots.is_empty() { Err(TlsFilesError::NoRoots) } else { Ok(roots) };
    };
    Ok(files::authorities(ca_file)?)
}

/// `insecure_skip_verify`: takes every certificate, but still wants its owner to have the key.
#[derive(Debug)]
struct BelieveAnyone(WebPkiSupportedAlgorithms);

impl ServerCertVerifier for BelieveAnyone {
    fn verify_server_cert(
        &self,
        _end_entity: &CertificateDer<'_>,
        _intermediates: &[CertificateDer<'_>],
        _server_name: &ServerName<'_>,
        _ocsp_response: &[u8],
        _now: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        crypto::verify_tls12_signature(message, certificate, signature, &self.0)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        crypto::verify_tls13_signature(message, certificate, signature, &self.0)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.supported_schemes()
    }
}
