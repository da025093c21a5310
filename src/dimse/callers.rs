//! The callers that AE titles stand for (settings `dimse.tenants`, `dimse.peers`).

use crate::archive::access::{Caller, Rights};
use crate::audit::event::AuditProtocol;
use crate::config::{Config, PeerAddress, PeerOperations, PeerRule, Tenant, TenantRule, tenant_of};

/// The callers of associations: devices, known by their AE titles.
#[derive(Debug, Clone)]
pub struct Callers {
    /// The rules; `None` without authentication, where there is one tenant.
    rules: Option<Vec<TenantRule>>,
    peers: Vec<PeerRule>,
}

/// A peer that may associate.
#[derive(Debug, Clone)]
pub struct KnownPeer {
    /// The caller.
    pub caller: Caller,
    /// The operations that the peer may request.
    pub operations: PeerOperations,
}

impl Callers {
    /// The callers that the settings name.
    pub fn of(config: &Config) -> Self {
        let rules = config.auth.is_on().then(|| config.dimse.tenants.clone());
        Self { rules, peers: config.dimse.peers.clone() }
    }

    /// Whether callers are known by their AE titles.
    pub fn are_authenticated(&self) -> bool {
        self.rules.is_some()
    }

    /// The peer that a pair of AE titles stands for; `None` if no rule matches.
    pub fn find(&self, calling: &str, called: &str) -> Option<KnownPeer> {
        let operations = self.operations(calling)?;
        let tenant = self.tenant(calling, called)?;
        let (subject, protocol) = (calling.trim().into(), AuditProtocol::Dimse);
        let mut caller = Caller { subject, protocol, ..Caller::anonymous() };
        if self.are_authenticated() {
            (caller.tenant, caller.rights) = (tenant, Rights::OF_DEVICES);
        }
        Some(KnownPeer { caller, operations })
    }

    /// The address of an AE title to which instances of a tenant may be sent; `None` if the title has none,
    /// or stands for another tenant.
    pub fn destination(&self, title: &str, called: &str, tenant: &Tenant) -> Option<&PeerAddress> {
        let peer = self.peers.iter().find(|peer| peer.ae_title.as_deref() == Some(title))?;
        let is_of_tenant = self.tenant(title, called).as_ref() == Some(tenant);
        peer.address.as_ref().filter(|_| is_of_tenant)
    }

    fn operations(&self, title: &str) -> Option<PeerOperations> {
        if self.peers.is_empty() {
            let all = if self.are_authenticated() { PeerOperations::OF_SENDERS } else { PeerOperations::ALL };
            return Some(all);
        }
        let named = self.peers.iter().find(|peer| peer.ae_title.as_deref() == Some(title));
        named.or_else(|| self.peers.iter().find(|peer| peer.ae_title.is_none())).map(|peer| peer.operations)
    }

    fn tenant(&self, calling: &str, called: &str) -> Option<Tenant> {
        let Some(rules) = &self.rules else { return Some(Tenant::default_tenant()) };
        tenant_of(rules, calling, called)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn callers(rules: &[&str]) -> Callers {
        let rules = rules.iter().map(|text| text.to_string().try_into().unwrap()).collect();
        Callers { rules: Some(rules), peers: Vec::new() }
    }

    #[test]
    fn the_rule_that_names_most_decides() {
        let callers = callers(&["CT = a", "*@WEST=b", "CT@WEST=c", "X RAY@CUSPID=d", "A=B=e"]);
        for (calling, called, expected) in [
            ("CT", "CUSPID", Some("a")),
            ("CT", "WEST", Some("c")),
            ("MR", "WEST", Some("b")),
            ("X RAY", "CUSPID", Some("d")),
            ("A=B", "CUSPID", Some("e")),
            ("X RAY", "EAST", None),
            ("MR", "CUSPID", None),
            ("ct", "CUSPID", None),
            ("", "", None),
        ] {
            let found = callers.find(calling, called).map(|peer| peer.caller.tenant.as_str().to_owned());
            assert_eq!(found.as_deref(), expected, "{calling}@{called}");
        }
    }

    #[test]
    fn devices_store_and_do_not_delete() {
        let KnownPeer { caller, operations } = callers(&["CT=a"]).find("CT", "CUSPID").unwrap();
        assert_eq!(operations, PeerOperations::OF_SENDERS);
        assert_eq!(caller.rights, Rights::OF_DEVICES);
        assert_eq!(&*caller.subject, "CT");
    }

    #[test]
    fn without_authentication_everyone_is_the_same() {
        let KnownPeer { caller, operations } = Callers::of(&Config::defaults()).find("ANY", "OTHER").unwrap();
        assert_eq!(operations, PeerOperations::ALL);
        assert_eq!(caller.tenant, Tenant::default_tenant());
    }

    #[test]
    fn peers_have_their_operations_and_others_those_of_the_star() {
        let peers = |texts: &[&str]| texts.iter().map(|text| text.to_string().try_into().unwrap()).collect();
        let mut callers = Callers { rules: None, peers: peers(&["WS@h:1=find+get", "*=store"]) };
        let names = |callers: &Callers, title| callers.find(title, "X").map(|peer| peer.operations.names());
        assert_eq!(names(&callers, "WS").as_deref(), Some("find+get"));
        assert_eq!(names(&callers, "CT").as_deref(), Some("store"));
        callers.peers.pop();
        assert_eq!(names(&callers, "CT"), None);
    }

    #[test]
    fn a_destination_is_of_the_same_tenant() {
        let mut callers = callers(&["A=a", "B=b", "C=a"]);
        let peers = ["A@h:1=find", "B@h:2=", "C="];
        callers.peers = peers.iter().map(|text| text.to_string().try_into().unwrap()).collect();
        let tenant = |name: &str| name.parse::<Tenant>().unwrap();
        let found = callers.destination("A", "X", &tenant("a")).map(ToString::to_string);
        assert_eq!(found.as_deref(), Some("h:1"));
        assert_eq!(callers.destination("B", "X", &tenant("a")), None, "another tenant");
        assert_eq!(callers.destination("C", "X", &tenant("a")), None, "no address");
        assert_eq!(callers.destination("D", "X", &tenant("a")), None, "unknown");
    }
}
