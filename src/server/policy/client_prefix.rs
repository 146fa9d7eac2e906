//! The address prefixes by which clients are limited.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

/// The address prefix of a client: an IPv4 address, or the /64 network of an IPv6 address, because
/// a host with one address of such a network can use all of them (RFC 6177).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) struct ClientPrefix(IpAddr);

impl ClientPrefix {
    pub(crate) fn of(peer: SocketAddr) -> ClientPrefix {
        ClientPrefix(truncated(peer.ip(), 32, 64))
    }

    /// Returns a number that the clients of one network share. Neighbouring networks have others.
    pub(crate) fn network_number(self) -> usize {
        let number = match ClientNetwork::of(self).0 {
            IpAddr::V4(address) => u64::from(u32::from(address) >> 8),
            IpAddr::V6(address) => (u128::from(address) >> 80) as u64,
        };
        // Multiplication mixes all bits into the upper ones (Fibonacci hashing).
        (number.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 32) as usize
    }
}

/// The network of a client, which one operator can have as a whole: a /24 of IPv4, or a /48 of
/// IPv6 (RFC 6177).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) struct ClientNetwork(IpAddr);

impl ClientNetwork {
    pub(crate) fn of(client: ClientPrefix) -> ClientNetwork {
        ClientNetwork(truncated(client.0, 24, 48))
    }
}

/// Returns an address with all but its first bits cleared, of which IPv4 and IPv6 have different
/// numbers.
fn truncated(address: IpAddr, v4_bits: u32, v6_bits: u32) -> IpAddr {
    match address {
        IpAddr::V4(address) => {
            let mask = u32::MAX << (32 - v4_bits);
            Ipv4Addr::from(u32::from(address) & mask).into()
        }
        IpAddr::V6(address) => {
            let mask = u128::MAX << (128 - v6_bits);
            Ipv6Addr::from(u128::from(address) & mask).into()
        }
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

    #[test]
    fn networks_are_24_and_48_bits_long() {
        let of = |address: &str| {
            let client = ClientPrefix::of(address.parse().unwrap());
            ClientNetwork::of(client)
        };
        assert_eq!(of("10.0.0.1:1"), of("10.0.0.255:2"));
        assert_ne!(of("10.0.0.1:1"), of("10.0.1.1:1"));
        assert_eq!(of("[2001:db8:0:1::1]:1"), of("[2001:db8:0:ffff::2]:2"));
        assert_ne!(of("[2001:db8:0:1::1]:1"), of("[2001:db8:1:1::1]:1"));
    }
}
