//! TLS as a client: to Postgres, and to whoever publishes the keys of tokens.

use std::sync::Arc;

use rustls::{ClientConfig, RootCertStore};

/// The certificates that the system trusts. Some in a system's store are malformed; the rest will
/// do.
#[must_use]
pub fn system_roots() -> RootCertStore {
    let mut roots = RootCertStore::empty();
    let found = rustls_native_certs::load_native_certs().certs;
    let (_added, _ignored) = roots.add_parsable_certificates(found);
    roots
}

/// A client that trusts these, and shows no certificate of its own.
///
/// # Errors
/// When the provider of the cryptography lacks a version of TLS.
pub fn client(roots: RootCertStore) -> Result<ClientConfig, rustls::Error> {
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let versions =
        ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions()?;
    Ok(versions.with_root_certificates(roots).with_no_client_auth())
}
