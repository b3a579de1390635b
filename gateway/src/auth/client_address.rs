//! The address of a client, behind trusted proxies too, and how many connections each address has.
//!
//! Anybody can write `X-Forwarded-For`. A proxy appends the address that it was called from, so the
//! list is read from its right end, as far as the hops are proxies of ours: the first that is none
//! is the client, and whatever stands left of it is the client's own tale. Addresses are counted
//! and never logged.

use std::net::{IpAddr, Ipv6Addr, SocketAddr};
use std::sync::Arc;

use dashmap::DashMap;
use hyper::header::{HeaderMap, HeaderName};
use ipnet::{IpNet, Ipv6Net};

const FORWARDED_FOR: HeaderName = HeaderName::from_static("x-forwarded-for");

/// Bits of an IPv6 address that one client has to itself.
const IPV6_PREFIX_BITS: u8 = 64;

/// Addresses of proxies that are believed.
#[derive(Clone, Debug, Default)]
pub(crate) struct TrustedProxies(Vec<IpNet>);

/// An entry of the list that is no address and no network.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{0}` is no address and no network such as 10.0.0.0/8")]
pub(crate) struct NetworkError(String);

impl TrustedProxies {
    /// Reads addresses and networks; the first bad entry is the error.
    pub(crate) fn parse<S: AsRef<str>>(
        entries: impl IntoIterator<Item = S>,
    ) -> Result<TrustedProxies, NetworkError> {
        let read = |entry: S| {
            let text = entry.as_ref();
            let network = text.parse().or_else(|_| text.parse::<IpAddr>().map(IpNet::from));
            network.map_err(|_| NetworkError(text.to_owned()))
        };
        entries.into_iter().map(read).collect::<Result<_, _>>().map(TrustedProxies)
    }

    /// Whether somebody is such a proxy.
    pub(crate) fn contains(&self, address: IpAddr) -> bool {
        self.0.iter().any(|network| network.contains(&address))
    }

    /// The right-most hop that is no proxy of ours. What cannot be read ends the search at the
    /// last hop that could.
    pub(crate) fn client(&self, peer: SocketAddr, headers: &HeaderMap) -> IpAddr {
        let mut client = peer.ip().to_canonical();
        let lines: Vec<&[u8]> =
            headers.get_all(FORWARDED_FOR).iter().map(|line| line.as_bytes()).collect();
        let hops = lines.iter().rev().flat_map(|line| line.rsplit(|&byte| byte == b','));
        for hop in hops {
            if !self.contains(client) {
                break;
            }
            let Some(next) = std::str::from_utf8(hop).ok().and_then(parse_hop) else { break };
            client = next;
        }
        client
    }
}

/// An address, which some proxies write with a port.
fn parse_hop(text: &str) -> Option<IpAddr> {
    let text = text.trim();
    let address = text
        .parse::<IpAddr>()
        .ok()
        .or_else(|| text.parse::<SocketAddr>().ok().map(|socket| socket.ip()))
        .or_else(|| {
            text.strip_prefix('[')?.strip_suffix(']')?.parse::<Ipv6Addr>().ok().map(IpAddr::V6)
        })?;
    Some(address.to_canonical())
}

/// How many connections there are from where.
#[derive(Debug, Default)]
pub(crate) struct Addresses {
    open: DashMap<IpAddr, usize>,
}

/// One of an address's connections; dropping it gives it back.
#[derive(Debug)]
pub(crate) struct AddressPlace {
    addresses: Arc<Addresses>,
    address: IpAddr,
}

impl Addresses {
    /// Counts one more, unless there are `max` already; a `max` of 0 is no limit. There is an entry
    /// per address with connections only, so that the map is bounded by their number.
    pub(crate) fn enter(
        self: &Arc<Addresses>,
        address: IpAddr,
        max: usize,
    ) -> Option<AddressPlace> {
        let address = counted(address);
        // The guard ends with the block; nothing in it looks at the map again.
        {
            let mut open = self.open.entry(address).or_default();
            if max > 0 && *open >= max {
                return None;
            }
            *open += 1;
        }
        Some(AddressPlace { addresses: Arc::clone(self), address })
    }
}

impl Drop for AddressPlace {
    fn drop(&mut self) {
        self.addresses.open.remove_if_mut(&self.address, |_, open| {
            *open -= 1;
            *open == 0
        });
    }
}

/// What is counted as one: an IPv4 address, or the network of an IPv6 address.
fn counted(address: IpAddr) -> IpAddr {
    match address {
        IpAddr::V4(_) => address,
        IpAddr::V6(address) => IpAddr::V6(Ipv6Net::new_assert(address, IPV6_PREFIX_BITS).network()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn client(trusted: &[&str], peer: &str, lines: &[&str]) -> String {
        let trusted = TrustedProxies::parse(trusted).unwrap();
        let mut headers = HeaderMap::new();
        for line in lines {
            headers.append(FORWARDED_FOR, line.parse().unwrap());
        }
        trusted.client(SocketAddr::new(peer.parse().unwrap(), 1), &headers).to_string()
    }

    #[test]
    fn the_client_is_the_right_most_hop_that_is_no_proxy_of_ours() {
        const OURS: &[&str] = &["10.0.0.0/8", "192.0.2.7", "2001:db8::/32"];
        /// Trusted, the peer, the header's lines, and who the client is.
        type Case = (&'static [&'static str], &'static str, &'static [&'static str], &'static str);
        let table: [Case; 20] = [
            // Nobody is believed.
            (&[], "10.0.0.1", &["1.2.3.4"], "10.0.0.1"),
            (OURS, "203.0.113.5", &["1.2.3.4"], "203.0.113.5"),
            (OURS, "11.0.0.1", &["1.2.3.4"], "11.0.0.1"),
            (OURS, "192.0.2.8", &["1.2.3.4"], "192.0.2.8"),
            // One proxy, and what the client had written before it.
            (OURS, "10.0.0.1", &[], "10.0.0.1"),
            (OURS, "10.0.0.1", &["1.2.3.4"], "1.2.3.4"),
            (OURS, "10.0.0.1", &["6.6.6.6, 1.2.3.4"], "1.2.3.4"),
            (OURS, "10.0.0.1", &["6.6.6.6", "1.2.3.4"], "1.2.3.4"),
            (OURS, "10.0.0.1", &["10.9.9.9, 1.2.3.4"], "1.2.3.4"),
            // Two proxies.
            (OURS, "10.0.0.1", &["1.2.3.4, 192.0.2.7"], "1.2.3.4"),
            (OURS, "10.0.0.1", &["6.6.6.6, 1.2.3.4", "192.0.2.7"], "1.2.3.4"),
            (OURS, "10.0.0.1", &["6.6.6.6, 1.2.3.4,192.0.2.8"], "192.0.2.8"),
            // All of them ours: the first of them is the client.
            (OURS, "10.0.0.1", &["10.0.0.3, 10.0.0.2"], "10.0.0.3"),
            // What cannot be read is not guessed at.
            (OURS, "10.0.0.1", &["1.2.3.4, unknown"], "10.0.0.1"),
            (OURS, "10.0.0.1", &["1.2.3.4, , 10.0.0.2"], "10.0.0.2"),
            (OURS, "10.0.0.1", &["'; DROP TABLE x"], "10.0.0.1"),
            // Other forms.
            (OURS, "10.0.0.1", &["1.2.3.4:5678"], "1.2.3.4"),
            (OURS, "2001:db8::1", &["[2001:dead::1]:80"], "2001:dead::1"),
            (OURS, "2001:db8::1", &["[2001:dead::1]"], "2001:dead::1"),
            (OURS, "::ffff:10.0.0.1", &["::ffff:1.2.3.4"], "1.2.3.4"),
        ];
        for (trusted, peer, lines, expected) in table {
            assert_eq!(client(trusted, peer, lines), expected, "{peer} {lines:?}");
        }
    }

    #[test]
    fn a_bad_entry_is_named() {
        for entry in ["", "localhost", "10.0.0.0/33", "10.0.0.0/-1", "::/129", "10.0.0.0/8/8"] {
            let error = TrustedProxies::parse(["10.0.0.1", entry]).unwrap_err();
            assert!(error.to_string().starts_with(&format!("`{entry}`")), "{error}");
        }
        assert!(TrustedProxies::parse(["0.0.0.0/0", "::/0"]).is_ok());
    }

    #[test]
    fn connections_are_counted_per_address_and_given_back() {
        let addresses = Arc::new(Addresses::default());
        let at = |text: &str| text.parse::<IpAddr>().unwrap();
        let first = addresses.enter(at("1.2.3.4"), 1);
        assert!(first.is_some() && addresses.enter(at("1.2.3.4"), 1).is_none());
        assert!(addresses.enter(at("1.2.3.5"), 1).is_some());
        let _network = addresses.enter(at("2001:db8::1"), 1).unwrap();
        assert!(addresses.enter(at("2001:db8::ffff"), 1).is_none());
        assert!(addresses.enter(at("2001:db8:0:1::1"), 1).is_some());
        drop(first);
        assert!(addresses.enter(at("1.2.3.4"), 1).is_some());
        let _many: Vec<_> = (0..9).map(|_| addresses.enter(at("9.9.9.9"), 0).unwrap()).collect();
    }
}
