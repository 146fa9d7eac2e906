//! Where a connection comes from, as far as limits go: an IPv4 address, or the /64 of an IPv6 one, since whoever has one address
//! of such a network has all of them (RFC 6177).
//!
//! Must not know: sockets, what is limited.

use std::net::{IpAddr, Ipv6Addr, SocketAddr};

/// One party, by its address.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) struct ClientPrefix(IpAddr);

impl ClientPrefix {
    pub(crate) fn of(peer: SocketAddr) -> ClientPrefix {
        ClientPrefix(match peer.ip() {
            IpAddr::V6(address) => {
                let network = u128::from(address) >> 64 << 64;
                IpAddr::V6(Ipv6Addr::from(network))
            }
            address => address,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_network_of_ipv6_is_one_party_and_so_is_an_ipv4_address() {
        let of = |address: &str| ClientPrefix::of(address.parse().unwrap());
        assert_eq!(of("10.0.0.1:1"), of("10.0.0.1:2"));
        assert_ne!(of("10.0.0.1:1"), of("10.0.0.2:1"));
        assert_eq!(of("[2001:db8:0:1::1]:1"), of("[2001:db8:0:1:ffff::2]:2"));
        assert_ne!(of("[2001:db8:0:1::1]:1"), of("[2001:db8:0:2::1]:1"));
    }
}
