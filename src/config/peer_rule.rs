//! The DIMSE peers and the operations that they may request (setting `dimse.peers`).

use std::fmt;

use serde::Deserialize;

use crate::config::MAX_AE_TITLE_CHARACTERS;

/// The beginning of an address that is reached over TLS.
const TLS_SCHEME: &str = "tls://";

/// A DIMSE operation that a peer may be allowed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PeerOperation {
    /// C-STORE.
    Store,
    /// C-FIND.
    Find,
    /// C-MOVE.
    Move,
    /// C-GET.
    Get,
    /// Storage commitment.
    Commit,
}

/// A set of operations.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct PeerOperations(u8);

impl PeerOperations {
    const NAMES: [(&'static str, PeerOperation); 5] = [
        ("store", PeerOperation::Store),
        ("find", PeerOperation::Find),
        ("move", PeerOperation::Move),
        ("get", PeerOperation::Get),
        ("commit", PeerOperation::Commit),
    ];
    /// All operations.
    pub const ALL: Self = Self(0b1_1111);
    /// The operations of a device that makes instances: to store, and to have that confirmed.
    pub const OF_SENDERS: Self = Self(1 << PeerOperation::Store as u8 | 1 << PeerOperation::Commit as u8);

    /// Whether an operation is in the set.
    pub const fn include(self, operation: PeerOperation) -> bool {
        self.0 & (1 << operation as u8) != 0
    }

    /// The names of the operations, with `+` between.
    pub fn names(self) -> String {
        let names = Self::NAMES.iter().filter(|(_, operation)| self.include(*operation));
        names.map(|(name, _)| *name).collect::<Vec<_>>().join("+")
    }

    fn read(text: &str) -> Option<Self> {
        let mut set = 0;
        for name in text.split('+').map(str::trim).filter(|name| !name.is_empty()) {
            set |= 1 << Self::NAMES.iter().find(|(known, _)| *known == name)?.1 as u8;
        }
        Some(Self(set))
    }
}

/// An entry of `dimse.peers`: `TITLE=operations`, `TITLE@host:port=operations` or
/// `TITLE@tls://host:port=operations`; `*=operations` for all other titles.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(try_from = "String")]
pub struct PeerRule {
    /// The AE title; `None` for all others.
    pub ae_title: Option<String>,
    /// The address of a peer to which instances can be sent.
    pub address: Option<PeerAddress>,
    /// The operations that the peer may request.
    pub operations: PeerOperations,
}

/// The address of a peer: `host:port` or `tls://host:port`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PeerAddress {
    /// `host:port`.
    pub host_and_port: String,
    /// Whether connections are over TLS.
    pub is_tls: bool,
}

impl fmt::Display for PeerAddress {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{}{}", if self.is_tls { TLS_SCHEME } else { "" }, self.host_and_port)
    }
}

impl PeerAddress {
    /// The name or address of the host, without the brackets of an IPv6 address.
    pub fn host(&self) -> &str {
        let host = self.host_and_port.rsplit_once(':').map_or(&*self.host_and_port, |(host, _)| host);
        host.trim_start_matches('[').trim_end_matches(']')
    }

    fn read(text: &str) -> Option<Self> {
        let without_scheme = text.strip_prefix(TLS_SCHEME);
        let host_and_port = without_scheme.unwrap_or(text);
        let (host, port) = host_and_port.rsplit_once(':')?;
        let is_valid = !host.is_empty() && port.parse::<u16>().is_ok_and(|port| port > 0);
        is_valid.then(|| Self { host_and_port: host_and_port.to_owned(), is_tls: without_scheme.is_some() })
    }
}

/// A text that is no entry of `dimse.peers`.
#[derive(Debug, thiserror::Error)]
#[error(
    "`{0}` cannot be in dimse.peers: an entry is TITLE=operations, TITLE@host:port=operations, \
     TITLE@tls://host:port=operations or *=operations, where operations are some of store+find+move+get+commit"
)]
pub struct NotAPeerRule(String);

impl TryFrom<String> for PeerRule {
    type Error = NotAPeerRule;

    fn try_from(text: String) -> Result<Self, NotAPeerRule> {
        read(&text).ok_or(NotAPeerRule(text))
    }
}

fn read(text: &str) -> Option<PeerRule> {
    let (peer, operations) = text.rsplit_once('=')?;
    let (title, address) = match peer.split_once('@') {
        Some((title, address)) => (title.trim(), Some(PeerAddress::read(address.trim())?)),
        None => (peer.trim(), None),
    };
    let is_title = !title.is_empty() && title.len() <= MAX_AE_TITLE_CHARACTERS && title.is_ascii();
    let is_valid = is_title && (title != "*" || address.is_none());
    let operations = PeerOperations::read(operations)?;
    is_valid.then(|| PeerRule { ae_title: (title != "*").then(|| title.to_owned()), address, operations })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn entries_name_a_title_an_address_and_operations() {
        for (text, title, address, operations) in [
            ("CT=store+commit", Some("CT"), None, "store+commit"),
            ("WS 1@10.0.0.5:104 = find + move", Some("WS 1"), Some("10.0.0.5:104"), "find+move"),
            ("WS@[::1]:104=get", Some("WS"), Some("[::1]:104"), "get"),
            ("WS@pacs.example:11112=", Some("WS"), Some("pacs.example:11112"), ""),
            ("WS@tls://pacs.example:2762=", Some("WS"), Some("tls://pacs.example:2762"), ""),
            ("*=store", None, None, "store"),
        ] {
            let rule = PeerRule::try_from(text.to_owned()).unwrap();
            assert_eq!(rule.ae_title.as_deref(), title, "{text}");
            assert_eq!(rule.address.map(|address| address.to_string()).as_deref(), address, "{text}");
            assert_eq!(rule.operations.names(), operations, "{text}");
        }
        for text in [
            "",
            "CT",
            "=store",
            "CT=delete",
            "CT@=store",
            "CT@host=store",
            "CT@:1=store",
            "CT@h:0=store",
            "CT@tls://=store",
            "*@h:1=store",
            "SEVENTEENLETTERSX=store",
        ] {
            assert!(PeerRule::try_from(text.to_owned()).is_err(), "{text}");
        }
    }

    #[test]
    fn all_operations_have_a_name() {
        assert_eq!(PeerOperations::ALL.names(), "store+find+move+get+commit");
        assert_eq!(PeerOperations::OF_SENDERS.names(), "store+commit");
    }
}
