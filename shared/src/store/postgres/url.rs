//! The database's URL: which parts are read here, and which by the driver.
//!
//! The driver knows neither `verify-full` nor `sslrootcert`, so both are taken out first. TLS
//! always verifies the server, also for `require`, where libpq would not: a connection that anyone
//! in between can read is better called plain. Without an `sslmode` it is plain.

use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use percent_encoding::percent_decode_str;
use rustls::RootCertStore;
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::{self, PemObject};
use tokio_postgres::Config;
use tokio_postgres_rustls::MakeRustlsConnect;

use crate::process::settings::Secret;
use crate::process::tls;

/// What the server sees in its list of connections, unless the URL says otherwise.
const APPLICATION: &str = "roomcast";

/// How long the other machine may be silent to what was sent, before the connection counts as lost.
const SILENCE_MAX: Duration = Duration::from_secs(15);

/// Why a URL names no database. Never quotes what may be a part of the password.
#[derive(Debug, thiserror::Error)]
pub enum UrlError {
    /// Another kind of address, or none.
    #[error("the database's URL must begin with postgres:// or postgresql://")]
    Scheme,
    /// An `@` in the name or the password ends them too early.
    #[error("the database's URL has more than one @: in a password, write it as %40")]
    Ambiguous,
    /// Nothing between `@` and the path.
    #[error("the database's URL names no host")]
    Host,
    /// Nobody to connect as.
    #[error("the database's URL names no user")]
    User,
    /// One of libpq's that is not known, or a misspelling.
    #[error(
        "the database's URL has an unknown sslmode: disable and prefer are plain, require and \
         verify-full are TLS with a verified server"
    )]
    SslMode,
    /// Anything else that the driver does not take.
    #[error("the database's URL cannot be read: {reason}")]
    Malformed {
        /// What the driver said: a name of an option, never a value.
        reason: String,
    },
    /// The file of `sslrootcert`.
    #[error("cannot read certificates from {file}")]
    Certificates {
        /// Which file.
        file: PathBuf,
        /// What is the matter with it.
        source: pem::Error,
    },
    /// TLS is wanted, and nobody is trusted.
    #[error(
        "there are no root certificates: install ca-certificates, or name a file (sslrootcert)"
    )]
    NobodyTrusted,
    /// The TLS library refuses its own defaults.
    #[error("cannot set up TLS")]
    Tls(#[source] rustls::Error),
}

/// Where the database is, and how to talk to it.
pub(super) struct Address {
    pub(super) config: Config,
    /// `None` for a plain connection.
    pub(super) tls: Option<MakeRustlsConnect>,
}

/// Reads a URL.
pub(super) fn parse(url: &Secret, connect_timeout: Duration) -> Result<Address, UrlError> {
    let url = url.expose();
    let rest = ["postgres://", "postgresql://"].iter().find_map(|scheme| url.strip_prefix(scheme));
    let rest = rest.ok_or(UrlError::Scheme)?;
    if rest.matches('@').count() > 1 {
        return Err(UrlError::Ambiguous);
    }
    let options_begin = rest.find('@').unwrap_or(0);
    let (before, query) = match rest[options_begin..].find('?') {
        Some(at) => (&rest[..options_begin + at], &rest[options_begin + at + 1..]),
        None => (rest, ""),
    };
    let (ours, theirs): (Vec<&str>, Vec<&str>) =
        query.split('&').filter(|option| !option.is_empty()).partition(|option| is_ours(option));
    let tls = tls(&ours)?;
    let mode = if tls.is_some() { "require" } else { "disable" };
    let options = [&[&*format!("sslmode={mode}")], &theirs[..]].concat().join("&");
    let mut config: Config =
        format!("postgres://{before}?{options}").parse().map_err(|error| malformed(&error))?;
    complete(&mut config, connect_timeout)?;
    Ok(Address { config, tls })
}

fn is_ours(option: &str) -> bool {
    option.starts_with("sslmode=") || option.starts_with("sslrootcert=")
}

fn malformed(error: &tokio_postgres::Error) -> UrlError {
    let reason = std::error::Error::source(error).map(ToString::to_string).unwrap_or_default();
    UrlError::Malformed { reason }
}

/// What the URL leaves open.
fn complete(config: &mut Config, connect_timeout: Duration) -> Result<(), UrlError> {
    let named = |host: &tokio_postgres::config::Host| match host {
        tokio_postgres::config::Host::Tcp(name) => !name.is_empty(),
        tokio_postgres::config::Host::Unix(_) => true,
    };
    if config.get_hosts().is_empty() || !config.get_hosts().iter().all(named) {
        return Err(UrlError::Host);
    }
    if config.get_user().is_none_or(str::is_empty) {
        return Err(UrlError::User);
    }
    if config.get_application_name().is_none() {
        config.application_name(APPLICATION);
    }
    if config.get_connect_timeout().is_none() {
        config.connect_timeout(connect_timeout);
    }
    config.tcp_user_timeout(SILENCE_MAX).keepalives_idle(SILENCE_MAX);
    Ok(())
}

fn tls(options: &[&str]) -> Result<Option<MakeRustlsConnect>, UrlError> {
    let value = |name: &str| {
        let named = options.iter().rev().find_map(|option| option.strip_prefix(name));
        named.map(|text| percent_decode_str(text).decode_utf8_lossy().into_owned())
    };
    match value("sslmode=").as_deref() {
        None | Some("disable" | "allow" | "prefer") => return Ok(None),
        Some("require" | "verify-ca" | "verify-full") => {}
        Some(_) => return Err(UrlError::SslMode),
    }
    let roots = match value("sslrootcert=").as_deref() {
        None | Some("system") => tls::system_roots(),
        Some(file) => trusted_by(Path::new(file))?,
    };
    if roots.is_empty() {
        return Err(UrlError::NobodyTrusted);
    }
    Ok(Some(MakeRustlsConnect::new(tls::client(roots).map_err(UrlError::Tls)?)))
}

fn trusted_by(file: &Path) -> Result<RootCertStore, UrlError> {
    let refused = |source| UrlError::Certificates { file: file.to_owned(), source };
    let mut roots = RootCertStore::empty();
    for certificate in CertificateDer::pem_file_iter(file).map_err(refused)? {
        let certificate = certificate.map_err(refused)?;
        roots.add(certificate).map_err(|error| refused(pem::Error::Io(io::Error::other(error))))?;
    }
    Ok(roots)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(url: &str) -> Result<Address, UrlError> {
        parse(&Secret::from(url), Duration::from_secs(5))
    }

    fn refused(url: &str) -> String {
        read(url).err().unwrap().to_string()
    }

    #[test]
    fn a_url_is_completed_and_plain_unless_it_says_otherwise() {
        for mode in ["", "?sslmode=disable", "?sslmode=prefer", "?sslmode=allow"] {
            let url = format!("postgres://ann:secret@db:6432/chat{mode}");
            let address = read(&url).unwrap();
            assert!(address.tls.is_none());
            assert_eq!(address.config.get_ports(), [6432]);
            assert_eq!(address.config.get_dbname(), Some("chat"));
            assert_eq!(address.config.get_password(), Some(&b"secret"[..]));
            assert_eq!(address.config.get_application_name(), Some("roomcast"));
            assert_eq!(address.config.get_ssl_mode(), tokio_postgres::config::SslMode::Disable);
        }
        let url = "postgresql://a:b@h/d?application_name=x&connect_timeout=7";
        let config = read(url).unwrap().config;
        assert_eq!(config.get_application_name(), Some("x"));
        assert_eq!(config.get_connect_timeout(), Some(&Duration::from_secs(7)));
    }

    #[test]
    fn tls_needs_someone_to_trust() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("ca.pem");
        std::fs::write(&file, "").unwrap();
        for mode in ["require", "verify-ca", "verify-full"] {
            let url = format!("postgres://a@h/d?sslmode={mode}&sslrootcert={}", file.display());
            assert!(matches!(read(&url), Err(UrlError::NobodyTrusted)));
        }
        let url = "postgres://a@h/d?sslrootcert=/not%20there.pem&sslmode=require";
        assert_eq!(refused(url), "cannot read certificates from /not there.pem");
        assert!(refused("postgres://a@h/d?sslmode=verify").contains("unknown sslmode"));
    }

    #[test]
    fn a_url_that_cannot_be_read_is_refused_without_its_password() {
        let expected = [
            ("redis://a:s3cret@h/d", "begin with postgres://"),
            ("s3cret", "begin with postgres://"),
            ("host=h user=a password=s3cret", "begin with postgres://"),
            ("postgres://a:s3@cret@h/d", "write it as %40"),
            ("postgres://a:p@h?s3cret=@x", "write it as %40"),
            ("postgres://a:s3cret@/d", "names no host"),
            ("postgres://a:s3cret@h:port/d", "invalid value for option `port`"),
            ("postgres://a:s3cret", "invalid value for option `port`"),
            ("postgres://:s3cret@h/d", "names no user"),
            ("postgres://h/d", "names no user"),
            ("postgres://a:s3cret@h/d?schema=chat", "unknown option `schema`"),
            ("postgres://a:s3cret@h/d?schema", "unterminated parameter"),
        ];
        for (url, reason) in expected {
            let said = refused(url);
            assert!(said.contains(reason), "{url}: {said}");
            assert!(!said.contains("s3") && !said.contains("cret"), "{said}");
        }
    }
}
