//! Checks that the `Host` of a request names this machine (against DNS rebinding).
//!
//! What is open on the loopback without a proof is meant for programs and people on this machine.
//! A web site can have a name of its own lead to 127.0.0.1 (DNS rebinding); to the browser its
//! pages are then at home here, and may read every answer. What they cannot choose is the `Host`
//! that the browser sends: it is the name that the site is known by.

use std::net::IpAddr;

use hyper::header::{HOST, HeaderMap};
use hyper::{StatusCode, Uri};

/// Why a request is not answered.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum HostError {
    /// None, several, or one that is no host.
    #[error("Host must be sent once, and be a host name or address with at most a port")]
    Malformed,
    /// Some other name.
    #[error("this port answers to names of this machine only, such as localhost")]
    Foreign,
}

impl HostError {
    /// The status to answer with.
    #[must_use]
    pub fn status(self) -> StatusCode {
        match self {
            HostError::Malformed => StatusCode::BAD_REQUEST,
            HostError::Foreign => StatusCode::FORBIDDEN,
        }
    }
}

/// Passes requests whose `Host`, and whose target where it names one, is `localhost`, an address
/// of 127.0.0.0/8 or `[::1]`, with any port.
///
/// # Errors
/// Says whether the name is another one, or none.
pub fn check(target: &Uri, headers: &HeaderMap) -> Result<(), HostError> {
    let mut hosts = headers.get_all(HOST).iter();
    let (Some(host), None) = (hosts.next(), hosts.next()) else {
        return Err(HostError::Malformed);
    };
    is_loopback(host.to_str().map_err(|_| HostError::Malformed)?)?;
    // RFC 9112, 3.2.2: where the target names a host, that one counts.
    target.authority().map_or(Ok(()), |authority| is_loopback(authority.as_str()))
}

fn is_loopback(host: &str) -> Result<(), HostError> {
    let bracketed = host.strip_prefix('[').and_then(|rest| rest.split_once(']'));
    let (address, rest) = match bracketed {
        Some((address, rest)) => {
            let address: std::net::Ipv6Addr = address.parse().map_err(|_| HostError::Malformed)?;
            (Some(IpAddr::V6(address)), rest)
        }
        None => {
            let end = host.find(':').unwrap_or(host.len());
            let (name, rest) = host.split_at(end);
            let is_host_byte = |byte: u8| byte.is_ascii_alphanumeric() || b"-._".contains(&byte);
            if name.is_empty() || !name.bytes().all(is_host_byte) {
                return Err(HostError::Malformed);
            }
            if name.eq_ignore_ascii_case("localhost") {
                (Some(IpAddr::V4(std::net::Ipv4Addr::LOCALHOST)), rest)
            } else {
                (name.parse().ok(), rest)
            }
        }
    };
    let is_port = |port: &str| port.bytes().all(|byte| byte.is_ascii_digit());
    if !(rest.is_empty() || rest.strip_prefix(':').is_some_and(is_port)) {
        return Err(HostError::Malformed);
    }
    if address.is_some_and(|address| address.is_loopback()) {
        Ok(())
    } else {
        Err(HostError::Foreign)
    }
}

#[cfg(test)]
mod tests {
    use hyper::header::HeaderValue;

    use super::*;

    fn checked(target: &str, hosts: &[&str]) -> Result<(), HostError> {
        let mut headers = HeaderMap::new();
        for host in hosts {
            headers.append(HOST, HeaderValue::from_str(host).unwrap());
        }
        check(&target.parse().unwrap(), &headers)
    }

    #[test]
    fn names_of_this_machine_pass_with_any_port() {
        for host in [
            "localhost",
            "LOCALHOST:3001",
            "127.0.0.1",
            "127.0.0.1:9464",
            "127.255.0.3:80",
            "[::1]",
            "[::1]:3001",
            "[0:0:0:0:0:0:0:1]:3001",
        ] {
            assert_eq!(checked("/", &[host]), Ok(()), "{host}");
        }
        assert_eq!(checked("http://localhost:1/x", &["localhost:1"]), Ok(()));
    }

    #[test]
    fn every_other_name_is_refused() {
        for host in [
            "evil.example",
            "evil.example:3001",
            "localhost.evil.example:3001",
            "localhost.",
            "127.0.0.1.evil.example",
            "10.0.0.1",
            "0.0.0.0:3001",
            "2130706433",
            "127.1",
            "0x7f.0.0.1",
            "[::]:3001",
            "[::ffff:127.0.0.1]",
            "[fe80::1]",
        ] {
            assert_eq!(checked("/", &[host]), Err(HostError::Foreign), "{host}");
        }
        let foreign = checked("http://evil.example/x", &["localhost"]);
        assert_eq!(foreign, Err(HostError::Foreign));
    }

    #[test]
    fn what_is_no_host_or_not_one_is_refused() {
        for hosts in [
            &[][..],
            &["localhost", "localhost"],
            &["localhost", "evil.example"],
            &[""],
            &[":3001"],
            &["::1"],
            &["[::1"],
            &["[localhost]"],
            &["[::1]evil.example"],
            &["localhost:x"],
            &["localhost:1:2"],
            &["ann@localhost"],
            &["localhost/x"],
            &["localhost localhost"],
        ] {
            assert_eq!(checked("/", hosts), Err(HostError::Malformed), "{hosts:?}");
        }
    }
}
