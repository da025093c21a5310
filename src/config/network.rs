//! Addresses and networks of machines (setting `http.trusted_proxies`).

use std::net::IpAddr;

use ipnet::IpNet;
use serde::Deserialize;

/// A network, as `10.0.0.0/8`, or one address.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(try_from = "String")]
pub struct Network(IpNet);

impl Network {
    /// Whether an address is in the network. An IPv4 address counts as such in the form of IPv6 too.
    pub fn contains(&self, address: IpAddr) -> bool {
        self.0.contains(&address.to_canonical())
    }
}

/// A text that is no network.
#[derive(Debug, thiserror::Error)]
#[error(
    "`{0}` cannot be in http.trusted_proxies: an entry is an address, as 10.0.0.1, or a network, as 10.0.0.0/8"
)]
pub struct NotANetwork(String);

impl TryFrom<String> for Network {
    type Error = NotANetwork;

    fn try_from(text: String) -> Result<Self, NotANetwork> {
        let address = text.parse::<IpAddr>().map(|address| IpNet::from(address.to_canonical()));
        address.or_else(|_| text.parse()).map(Self).map_err(|_| NotANetwork(text))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_and_networks_are_read() {
        for (network, address, expected) in [
            ("127.0.0.0/8", "127.3.2.1", true),
            ("127.0.0.0/8", "::ffff:127.0.0.1", true),
            ("127.0.0.0/8", "128.0.0.1", false),
            ("::1", "::1", true),
            ("::1", "127.0.0.1", false),
            ("10.1.2.3", "10.1.2.3", true),
            ("::ffff:10.1.2.3", "10.1.2.3", true),
            ("10.1.2.3", "10.1.2.4", false),
            ("fd00::/8", "fd12::1", true),
            ("0.0.0.0/0", "8.8.8.8", true),
        ] {
            let parsed = Network::try_from(network.to_owned()).unwrap();
            assert_eq!(parsed.contains(address.parse().unwrap()), expected, "{network} {address}");
        }
        for text in ["", "proxy.example", "10.0.0.0/33", "10.0.0", "*"] {
            assert!(Network::try_from(text.to_owned()).is_err(), "{text}");
        }
    }
}
