//! The address prefix by which clients are limited.

use std::net::{IpAddr, Ipv6Addr, SocketAddr};

/// The address prefix of a client: an IPv4 address, or the /64 network of an IPv6 address, because
/// a host with one address of such a network can use all of them (RFC 6177).
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
    fn ipv6_clients_share_the_prefix_of_their_network() {
        let of = |address: &str| ClientPrefix::of(address.parse().unwrap());
        assert_eq!(of("10.0.0.1:1"), of("10.0.0.1:2"));
        assert_ne!(of("10.0.0.1:1"), of("10.0.0.2:1"));
        assert_eq!(of("[2001:db8:0:1::1]:1"), of("[2001:db8:0:1:ffff::2]:2"));
        assert_ne!(of("[2001:db8:0:1::1]:1"), of("[2001:db8:0:2::1]:1"));
    }
}
