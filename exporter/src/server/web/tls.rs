//! TLS of the endpoint: from the web configuration to what rustls wants. Reading the files blocks.

use std::sync::Arc;

use rustls::{
    CertificateError, DigitallySignedStruct, DistinguishedName, Error, ServerConfig,
    SignatureScheme,
    client::danger::HandshakeSignatureValid,
    crypto::{self, CryptoProvider, WebPkiSupportedAlgorithms, ring},
    pki_types::{CertificateDer, UnixTime},
    server::{
        NoServerSessionStorage, VerifierBuilderError, WebPkiClientVerifier,
        danger::{ClientCertVerified, ClientCertVerifier},
    },
};
use x509_parser::{extensions::GeneralName, parse_x509_certificate};

use crate::{
    config::web::{ClientAuth, Preference, ServerTls},
    files::{self, PemError},
};

/// What is spoken inside of TLS.
const HTTP_1_1: &[u8] = b"http/1.1";

/// Why there is no TLS.
#[derive(Debug, thiserror::Error)]
pub enum TlsError {
    /// A file that `tls_server_config` names.
    #[error(transparent)]
    Pem(#[from] PemError),
    /// The key is not the certificate's, or what was chosen does not go together.
    #[error(
        "tls_server_config cannot be used: see that cert_file and key_file belong together, and that a chosen cipher \
         suite is of a chosen version"
    )]
    Refused(#[from] Error),
    /// The authorities cannot be what clients are checked by.
    #[error("tls_server_config.client_ca_file cannot be used")]
    ClientAuthority(#[from] VerifierBuilderError),
}

/// Reads the files and checks all of it.
pub(super) fn build(config: &ServerTls) -> Result<Arc<ServerConfig>, TlsError> {
    let provider = Arc::new(provider(config));
    let builder = ServerConfig::builder_with_provider(Arc::clone(&provider))
        .with_protocol_versions(&config.versions)?;
    let builder = match config.client_auth {
        ClientAuth::NoClientCert => builder.with_no_client_auth(),
        _ => builder.with_client_cert_verifier(verifier(config, &provider)?),
    };
    let chain = files::certificates(&config.cert_file)?;
    let mut tls = builder.with_single_cert(chain, files::private_key(&config.key_file)?)?;
    tls.alpn_protocols = vec![HTTP_1_1.to_vec()];
    tls.ignore_client_order = config.preference == Preference::Server;
    // A session that goes on would not be checked again; scrapers keep their connections instead.
    tls.session_storage = Arc::new(NoServerSessionStorage {});
    tls.send_tls13_tickets = 0;
    Ok(Arc::new(tls))
}

fn provider(config: &ServerTls) -> CryptoProvider {
    let mut provider = ring::default_provider();
    let wanted = &config.cipher_suites;
    if !wanted.is_empty() {
        let of_tls13 = |suite: &rustls::SupportedCipherSuite| suite.tls13().is_some();
        let known = provider.cipher_suites.clone();
        let chooses_tls13 =
            known.iter().any(|suite| of_tls13(suite) && wanted.contains(&suite.suite()));
        // As in Go, a list that is only of TLS 1.2 leaves TLS 1.3 alone.
        let kept = known.iter().filter(|suite| of_tls13(suite) && !chooses_tls13);
        let chosen =
            wanted.iter().flat_map(|name| known.iter().filter(move |suite| suite.suite() == *name));
        provider.cipher_suites = kept.chain(chosen).copied().collect();
    }
    if !config.curves.is_empty() {
        let known = provider.kx_groups.clone();
        let chosen = config
            .curves
            .iter()
            .filter_map(|name| known.iter().find(|group| group.name() == *name).copied());
        provider.kx_groups = chosen.collect();
    }
    provider
}

fn verifier(
    config: &ServerTls,
    provider: &Arc<CryptoProvider>,
) -> Result<Arc<ClientPolicy>, TlsError> {
    let authority = match &config.client_ca_file {
        None => None,
        Some(path) => {
            let roots = Arc::new(files::authorities(path)?);
            let provider = Arc::clone(provider);
            Some(WebPkiClientVerifier::builder_with_provider(roots, provider).build()?)
        }
    };
    let algorithms = provider.signature_verification_algorithms;
    let allowed_sans = config.client_allowed_sans.clone();
    Ok(Arc::new(ClientPolicy { authority, algorithms, allowed_sans }))
}

/// What is asked of a client's certificate, if it gives one.
///
/// Who gives none may finish the handshake whatever the policy, so that the kubelet can probe; the router turns it away
/// from all that is guarded.
#[derive(Debug)]
struct ClientPolicy {
    /// Who must have signed it, if anybody.
    authority: Option<Arc<dyn ClientCertVerifier>>,
    algorithms: WebPkiSupportedAlgorithms,
    allowed_sans: Vec<String>,
}

impl ClientCertVerifier for ClientPolicy {
    fn client_auth_mandatory(&self) -> bool {
        false
    }

    fn root_hint_subjects(&self) -> &[DistinguishedName] {
        self.authority.as_ref().map_or(&[], |authority| authority.root_hint_subjects())
    }

    fn verify_client_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        now: UnixTime,
    ) -> Result<ClientCertVerified, Error> {
        if let Some(authority) = &self.authority {
            authority.verify_client_cert(end_entity, intermediates, now)?;
        }
        if self.allowed_sans.is_empty() || has_allowed_name(end_entity, &self.allowed_sans) {
            Ok(ClientCertVerified::assertion())
        } else {
            Err(CertificateError::ApplicationVerificationFailure.into())
        }
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        crypto::verify_tls12_signature(message, certificate, signature, &self.algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        crypto::verify_tls13_signature(message, certificate, signature, &self.algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.algorithms.supported_schemes()
    }
}

/// Whether one of the certificate's alternative names is in the list, letter for letter.
fn has_allowed_name(certificate: &CertificateDer<'_>, allowed: &[String]) -> bool {
    let Ok((_, certificate)) = parse_x509_certificate(certificate) else {
        return false;
    };
    let Ok(Some(names)) = certificate.subject_alternative_name() else {
        return false;
    };
    let is_allowed = |name: &str| allowed.iter().any(|one| one == name);
    names.value.general_names.iter().any(|name| match name {
        GeneralName::DNSName(name) | GeneralName::RFC822Name(name) | GeneralName::URI(name) => {
            is_allowed(name)
        }
        GeneralName::IPAddress(bytes) => address(bytes).is_some_and(|name| is_allowed(&name)),
        _ => false,
    })
}

fn address(bytes: &[u8]) -> Option<String> {
    use std::net::{Ipv4Addr, Ipv6Addr};

    let v4 = <[u8; 4]>::try_from(bytes).map(|bytes| Ipv4Addr::from(bytes).to_string());
    v4.or_else(|_| <[u8; 16]>::try_from(bytes).map(|bytes| Ipv6Addr::from(bytes).to_string())).ok()
}
