//! Go's names of TLS versions, cipher suites and curves, as far as rustls has what they name. Pure.

use rustls::{CipherSuite, NamedGroup, SupportedProtocolVersion, version};

/// What a name of the file stands for.
pub(super) type Named<T> = (&'static str, T);

/// From the lowest to the highest.
pub(super) const VERSIONS: &[Named<&SupportedProtocolVersion>] =
    &[("TLS12", &version::TLS12), ("TLS13", &version::TLS13)];

pub(super) const CIPHER_SUITES: &[Named<CipherSuite>] = &[
    ("TLS_AES_128_GCM_SHA256", CipherSuite::TLS13_AES_128_GCM_SHA256),
    ("TLS_AES_256_GCM_SHA384", CipherSuite::TLS13_AES_256_GCM_SHA384),
    ("TLS_CHACHA20_POLY1305_SHA256", CipherSuite::TLS13_CHACHA20_POLY1305_SHA256),
    (
        "TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256",
        CipherSuite::TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256,
    ),
    (
        "TLS_ECDHE_ECDSA_WITH_AES_256_GCM_SHA384",
        CipherSuite::TLS_ECDHE_ECDSA_WITH_AES_256_GCM_SHA384,
    ),
    (
        "TLS_ECDHE_ECDSA_WITH_CHACHA20_POLY1305_SHA256",
        CipherSuite::TLS_ECDHE_ECDSA_WITH_CHACHA20_POLY1305_SHA256,
    ),
    ("TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256", CipherSuite::TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256),
    ("TLS_ECDHE_RSA_WITH_AES_256_GCM_SHA384", CipherSuite::TLS_ECDHE_RSA_WITH_AES_256_GCM_SHA384),
    (
        "TLS_ECDHE_RSA_WITH_CHACHA20_POLY1305_SHA256",
        CipherSuite::TLS_ECDHE_RSA_WITH_CHACHA20_POLY1305_SHA256,
    ),
];

pub(super) const CURVES: &[Named<NamedGroup>] = &[
    ("X25519", NamedGroup::X25519),
    ("CurveP256", NamedGroup::secp256r1),
    ("CurveP384", NamedGroup::secp384r1),
];

/// What the name stands for.
pub(super) fn find<T: Copy>(table: &[Named<T>], name: &str) -> Option<T> {
    table.iter().find(|(known, _)| *known == name).map(|(_, meant)| *meant)
}

/// All names, for people.
pub(super) fn list<T>(table: &[Named<T>]) -> String {
    let names: Vec<&str> = table.iter().map(|(name, _)| *name).collect();
    names.join(", ")
}

#[cfg(test)]
mod tests {
    use rustls::crypto::ring::default_provider;

    use super::{CIPHER_SUITES, CURVES};

    #[test]
    fn everything_that_the_provider_has_can_be_named_and_nothing_else() {
        let provider = default_provider();
        assert_eq!(provider.cipher_suites.len(), CIPHER_SUITES.len());
        for suite in provider.cipher_suites {
            assert!(CIPHER_SUITES.iter().any(|(_, known)| *known == suite.suite()), "{suite:?}");
        }
        assert_eq!(provider.kx_groups.len(), CURVES.len());
        for group in provider.kx_groups {
            assert!(CURVES.iter().any(|(_, known)| *known == group.name()), "{group:?}");
        }
    }
}
