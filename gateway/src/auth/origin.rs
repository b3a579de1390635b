//! The web origins (RFC 6454) that may open a socket.
//!
//! A browser sends credentials of its own accord, so anybody's page could speak for the person who
//! looks at it (cross-site WebSocket hijacking); the one thing that page cannot forge is the
//! `Origin` header. Origins are compared whole, as (scheme, host, port), never as pieces of text:
//! that is what lets `https://app.example.com.evil` through. Pages inside applications have origins
//! of schemes of their own, such as `tauri://localhost`, which are compared alike.

use std::fmt;
use std::net::Ipv6Addr;

/// A web origin: where a page comes from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Origin {
    scheme: Scheme,
    host: String,
    /// Absent where it is not given and the scheme has none by default.
    port: Option<u16>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Scheme {
    Http,
    Https,
    /// An application's own, in lower case.
    Other(String),
}

impl Scheme {
    /// RFC 3986, 3.1. No page comes from a socket, so that a list with `wss://…` is a mistake.
    fn parse(text: &str) -> Option<Scheme> {
        let text = text.to_ascii_lowercase();
        let is_scheme_byte = |byte: u8| byte.is_ascii_alphanumeric() || b"+-.".contains(&byte);
        let begins = text.bytes().next().is_some_and(|byte| byte.is_ascii_alphabetic());
        match text.as_str() {
            "http" => Some(Self::Http),
            "https" => Some(Self::Https),
            "ws" | "wss" => None,
            _ if begins && text.bytes().all(is_scheme_byte) => Some(Self::Other(text)),
            _ => None,
        }
    }

    fn as_str(&self) -> &str {
        match self {
            Self::Http => "http",
            Self::Https => "https",
            Self::Other(name) => name,
        }
    }

    fn default_port(&self) -> Option<u16> {
        match self {
            Self::Http => Some(80),
            Self::Https => Some(443),
            Self::Other(_) => None,
        }
    }
}

/// A host with its port where one is given: the content of a `Host` header.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Authority {
    /// In lower case; an IPv6 address in its shortest form, in brackets.
    host: String,
    /// Absent stands for the default port of a scheme that a `Host` header does not tell.
    port: Option<u16>,
}

impl Authority {
    /// `host` or `host:port` and nothing else: no user, no path, no empty port.
    pub(super) fn parse(text: &str) -> Option<Self> {
        if let Some(rest) = text.strip_prefix('[') {
            let (address, rest) = rest.split_once(']')?;
            let address: Ipv6Addr = address.parse().ok()?;
            let port = match rest.strip_prefix(':') {
                Some(port) => Some(parse_port(port)?),
                None if rest.is_empty() => None,
                None => return None,
            };
            return Some(Self { host: format!("[{address}]"), port });
        }
        let (host, port) = match text.split_once(':') {
            Some((host, port)) => (host, Some(parse_port(port)?)),
            None => (text, None),
        };
        let is_host_byte = |byte: u8| byte.is_ascii_alphanumeric() || b"-._".contains(&byte);
        if host.is_empty() || !host.bytes().all(is_host_byte) {
            return None;
        }
        Some(Self { host: host.to_ascii_lowercase(), port })
    }
}

/// A port as browsers write it: digits only (`u16` would also read `+80`), no leading zero.
fn parse_port(text: &str) -> Option<u16> {
    let is_plain = text.bytes().all(|byte| byte.is_ascii_digit()) && !text.starts_with('0');
    if is_plain { text.parse().ok() } else { None }
}

impl Origin {
    /// `scheme://host` or `scheme://host:port` and nothing else.
    pub(super) fn parse(text: &str) -> Option<Self> {
        let (scheme, authority) = split_scheme(text)?;
        Some(Self::new(scheme, Authority::parse(authority)?))
    }

    /// Whether a page of this origin was served by the host that it now opens a socket to.
    ///
    /// A `Host` header names no scheme, and behind a balancer that ends TLS we do not know it: the
    /// origin's own scheme says what an absent port means. No host serves pages of another scheme
    /// than HTTP's: where a page inside an application is at home says nothing about this host.
    pub(super) fn is_at(&self, host: &Authority) -> bool {
        let is_served = matches!(self.scheme, Scheme::Http | Scheme::Https);
        is_served && *self == Self::new(self.scheme.clone(), host.clone())
    }

    fn new(scheme: Scheme, Authority { host, port }: Authority) -> Self {
        let port = port.or(scheme.default_port());
        Self { scheme, host, port }
    }
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}://{}", self.scheme.as_str(), self.host)?;
        self.port.map_or(Ok(()), |port| write!(f, ":{port}"))
    }
}

fn split_scheme(text: &str) -> Option<(Scheme, &str)> {
    let (scheme, rest) = text.split_once("://")?;
    Some((Scheme::parse(scheme)?, rest))
}

/// The origins, besides a node's own, whose pages may open a socket.
#[derive(Debug, Clone, Default)]
pub(crate) struct AllowedOrigins(Vec<Origin>);

impl AllowedOrigins {
    /// Reads a list of origins such as `https://chat.example.com` or `http://localhost:3001`.
    ///
    /// An entry may be a whole URL, as the address of an application usually is; its path is left
    /// out. There are no wildcards. The first bad entry is the error.
    pub(crate) fn parse<S: AsRef<str>>(
        entries: impl IntoIterator<Item = S>,
    ) -> Result<Self, AllowedOriginsError> {
        let parse = |entry: S| parse_entry(entry.as_ref().trim());
        entries.into_iter().map(parse).collect::<Result<_, _>>().map(Self)
    }

    /// Whether the origin is one of the list, exactly.
    pub(super) fn contains(&self, origin: &Origin) -> bool {
        self.0.contains(origin)
    }
}

fn parse_entry(entry: &str) -> Result<Origin, AllowedOriginsError> {
    let error = |fault| AllowedOriginsError { entry: without_user(entry), fault };
    let (scheme, rest) = split_scheme(entry).ok_or_else(|| error(OriginFault::Scheme))?;
    let end = rest.find(['/', '?', '#']).unwrap_or(rest.len());
    let authority = &rest[..end];
    if authority.contains('@') {
        return Err(error(OriginFault::User));
    }
    if authority.contains('*') {
        return Err(error(OriginFault::Wildcard));
    }
    let authority = Authority::parse(authority).ok_or_else(|| error(OriginFault::Host))?;
    Ok(Origin::new(scheme, authority))
}

/// The entry as it may be printed: what stands before an `@` may be a password.
fn without_user(entry: &str) -> String {
    match entry.rsplit_once('@') {
        Some((_, rest)) => format!("[redacted]@{rest}"),
        None => entry.to_owned(),
    }
}

/// An entry of the list of allowed origins that cannot be used.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{entry}` is not an allowed origin: {fault}")]
pub(crate) struct AllowedOriginsError {
    /// The entry as it was written, without a user and password.
    pub entry: String,
    /// What is wrong with it.
    pub fault: OriginFault,
}

/// What is wrong with an entry of the list of allowed origins.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum OriginFault {
    /// It does not begin with the scheme of a page.
    Scheme,
    /// It has a user or a password.
    User,
    /// It has an asterisk.
    Wildcard,
    /// Its host is missing or has characters that no host has, or its port is no port.
    Host,
}

impl fmt::Display for OriginFault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Scheme => "it must begin with a page's scheme, such as https:// or tauri://",
            Self::User => "it must not contain a user or a password",
            Self::Wildcard => "wildcards are not supported, list each origin",
            Self::Host => "it needs a host, in ASCII, and at most a port from 1 to 65535",
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn entries_of_the_list_become_origins() {
        let table = [
            ("https://chat.example.com", "https://chat.example.com"),
            ("https://chat.example.com:443", "https://chat.example.com"),
            ("http://chat.example.com:80", "http://chat.example.com"),
            ("HTTPS://Chat.Example.COM", "https://chat.example.com"),
            ("  https://chat.example.com  ", "https://chat.example.com"),
            ("https://chat.example.com/", "https://chat.example.com"),
            ("https://chat.example.com/team/chat?tab=1#x", "https://chat.example.com"),
            ("https://chat.example.com?next=a@b", "https://chat.example.com"),
            ("http://localhost:3001", "http://localhost:3001"),
            ("http://localhost:3001/app", "http://localhost:3001"),
            ("http://[::1]:3001", "http://[::1]:3001"),
            ("http://[0:0:0:0:0:0:0:1]:3001", "http://[::1]:3001"),
            ("http://my_host", "http://my_host"),
            ("tauri://localhost", "tauri://localhost"),
            ("Capacitor://localhost/", "capacitor://localhost"),
            ("ionic://localhost:8100", "ionic://localhost:8100"),
            ("chrome-extension://abcdefghijklmnop", "chrome-extension://abcdefghijklmnop"),
        ];
        for (entry, origin) in table {
            let list = AllowedOrigins::parse([entry]).unwrap();
            assert!(list.contains(&Origin::parse(origin).unwrap()), "{entry}");
        }
    }

    #[test]
    fn an_origin_of_an_application_is_that_one_and_no_host() {
        let list = AllowedOrigins::parse(["tauri://localhost"]).unwrap();
        for other in [
            "capacitor://localhost",
            "http://localhost",
            "https://localhost",
            "tauri://localhost:80",
            "tauri://localhost.evil",
            "xtauri://localhost",
        ] {
            assert!(!list.contains(&Origin::parse(other).unwrap()), "{other}");
        }
        let host = Authority::parse("localhost").unwrap();
        assert!(!Origin::parse("tauri://localhost").unwrap().is_at(&host));
        assert!(Origin::parse("https://localhost").unwrap().is_at(&host));
    }

    #[test]
    fn a_bad_entry_is_named_with_its_fault() {
        let table = [
            ("", OriginFault::Scheme),
            ("chat.example.com", OriginFault::Scheme),
            ("ws://chat.example.com", OriginFault::Scheme),
            ("null", OriginFault::Scheme),
            ("wss://chat.example.com", OriginFault::Scheme),
            ("://chat.example.com", OriginFault::Scheme),
            ("1password://chat", OriginFault::Scheme),
            ("a b://chat", OriginFault::Scheme),
            ("file:///index.html", OriginFault::Host),
            ("tauri://*", OriginFault::Wildcard),
            ("*", OriginFault::Scheme),
            ("https://*.example.com", OriginFault::Wildcard),
            ("https://", OriginFault::Host),
            ("https:///path", OriginFault::Host),
            ("https://chat example.com", OriginFault::Host),
            ("https://chät.example.com", OriginFault::Host),
            ("https://chat.example.com:", OriginFault::Host),
            ("https://chat.example.com:0", OriginFault::Host),
            ("https://chat.example.com:65536", OriginFault::Host),
            ("https://chat.example.com:+80", OriginFault::Host),
            ("https://chat.example.com\\evil", OriginFault::Host),
            ("http://::1", OriginFault::Host),
            ("http://[::1", OriginFault::Host),
            ("http://[::g]", OriginFault::Host),
        ];
        for (entry, fault) in table {
            let error = AllowedOrigins::parse(["https://good.example.com", entry]).unwrap_err();
            assert_eq!(error, AllowedOriginsError { entry: entry.to_owned(), fault });
        }
    }

    #[test]
    fn a_password_in_an_entry_is_refused_and_not_printed() {
        let error = AllowedOrigins::parse(["https://u:hunter2@chat.example.com/x"]).unwrap_err();
        assert_eq!(
            error.to_string(),
            "`[redacted]@chat.example.com/x` is not an allowed origin: \
             it must not contain a user or a password"
        );
    }
}
