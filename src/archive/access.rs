//! Callers and their rights. The tenant is part of every key, and only a caller has one.

use std::sync::Arc;

use crate::audit::event::{AuditProtocol, AuditUser};
use crate::budget::BACKGROUND;
use crate::config::AuthSettings;
pub use crate::config::{NotATenant, Tenant};
use crate::index::shares::SharedObjects;

/// An action that a caller may be allowed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Right {
    /// Search and retrieve.
    Read,
    /// Store.
    Write,
    /// Delete.
    Delete,
    /// See how the server fares.
    Administer,
    /// Make, list and revoke shares.
    Share,
}

impl Right {
    /// All rights.
    pub const ALL: [Self; 5] = [Self::Read, Self::Write, Self::Delete, Self::Administer, Self::Share];

    /// The name in settings and messages.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Read => "read",
            Self::Write => "write",
            Self::Delete => "delete",
            Self::Administer => "administer",
            Self::Share => "share",
        }
    }
}

/// A set of rights.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Rights(u8);

impl Rights {
    /// All rights.
    pub const ALL: Self = Self::of(&Right::ALL);
    /// The rights of a device that is authenticated by its AE title: to store, and to search and retrieve.
    pub const OF_DEVICES: Self = Self::of(&[Right::Read, Right::Write]);

    /// The set of some rights.
    pub const fn of(rights: &[Right]) -> Self {
        let mut set = 0;
        let mut index = 0;
        while index < rights.len() {
            set |= 1 << rights[index] as u8;
            index += 1;
        }
        Self(set)
    }

    /// Whether a right is in the set.
    pub const fn include(self, right: Right) -> bool {
        self.0 & (1 << right as u8) != 0
    }
}

/// The table of roles and the rights that they give, from the settings.
#[derive(Debug, Clone)]
pub struct Roles([(Right, Vec<String>); 5]);

impl Roles {
    /// Makes the table from the settings.
    pub fn of(settings: &AuthSettings) -> Self {
        Self([
            (Right::Read, settings.read_roles.clone()),
            (Right::Write, settings.write_roles.clone()),
            (Right::Delete, settings.delete_roles.clone()),
            (Right::Administer, settings.administer_roles.clone()),
            (Right::Share, settings.share_roles.clone()),
        ])
    }

    /// The rights that these roles give. No right includes another, and roles that are not in the table give
    /// none.
    pub fn rights(&self, held: &[&str]) -> Rights {
        let given = self.0.iter().filter(|(_, roles)| roles.iter().any(|role| held.contains(&role.as_str())));
        Rights::of(&given.map(|(right, _)| *right).collect::<Vec<_>>())
    }
}

/// The share that a caller has opened.
#[derive(Debug, PartialEq, Eq)]
pub struct ShareAccess {
    /// The identifier of the share.
    pub id: String,
    /// The objects that the caller may see.
    pub objects: SharedObjects,
    /// Whether the caller may retrieve whole instances and zip files.
    pub may_download: bool,
}

/// The authenticated identity of a request. Nothing in the archive is read or changed without a caller.
#[derive(Debug, Clone)]
pub struct Caller {
    /// The tenant whose objects the caller may see.
    pub tenant: Tenant,
    /// The name in the token or the association, empty if there is none; never the name of a patient.
    pub subject: Arc<str>,
    /// The address of a client without authentication, empty for others: clients share places and memory
    /// fairly, and with authentication tenants do.
    pub client: Arc<str>,
    /// The network address, for the audit log; empty for the server itself.
    pub address: Arc<str>,
    /// The way to the server.
    pub protocol: AuditProtocol,
    /// The rights. Protocol layers check them before they call the archive.
    pub rights: Rights,
    /// The end of the access token, in seconds since 1970 UTC; `None` without one.
    pub expires_at: Option<i64>,
    /// Whether the caller is the server itself with background work.
    pub is_background: bool,
    /// The share to whose objects the caller is limited; `None` for a caller who may see all of the tenant's.
    pub share: Option<Arc<ShareAccess>>,
}

impl Caller {
    /// The caller of a server without authentication.
    pub fn anonymous() -> Self {
        let (protocol, is_background) = (AuditProtocol::Http, false);
        Self { protocol, is_background, ..Self::server(Tenant::default_tenant()) }
    }

    /// The caller as a participant of an event of the audit log.
    pub fn audit_user(&self) -> AuditUser {
        let held = Right::ALL.into_iter().filter(|right| self.rights.include(*right));
        AuditUser {
            user: self.subject.as_ref().to_owned(),
            address: self.address.as_ref().to_owned(),
            rights: held.map(|right| right.name().to_owned()).collect(),
            protocol: self.protocol,
        }
    }

    /// The AE title of the caller; empty for a caller that does not speak DIMSE.
    pub(in crate::archive) fn ae_title(&self) -> &str {
        match self.protocol {
            AuditProtocol::Dimse => &self.subject,
            AuditProtocol::Http | AuditProtocol::Server => "",
        }
    }

    /// The name of the client among whom places and memory are shared: a tenant, or, without authentication,
    /// an address; [`BACKGROUND`] for background work, which is served last.
    pub(in crate::archive) fn sharing_client(&self) -> String {
        match self.is_background {
            true => BACKGROUND.into(),
            false => format!("{} {}", self.tenant.as_str(), self.client),
        }
    }

    /// The server itself, for background work on a tenant's objects.
    pub fn server(tenant: Tenant) -> Self {
        Self {
            tenant,
            subject: "".into(),
            client: "".into(),
            address: "".into(),
            protocol: AuditProtocol::Server,
            rights: Rights::ALL,
            expires_at: None,
            is_background: true,
            share: None,
        }
    }

    /// The caller who has opened a share: may search and retrieve the share's objects, and nothing else.
    pub(in crate::archive) fn of_share(tenant: Tenant, share: Arc<ShareAccess>, expires_at: i64) -> Self {
        let subject = format!("share:{}", share.id).into();
        let (rights, expires_at) = (Rights::of(&[Right::Read]), Some(expires_at));
        let anonymous = Self::anonymous();
        Self { tenant, rights, subject, expires_at, share: Some(share), ..anonymous }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Config;

    #[test]
    fn each_right_comes_from_its_own_roles_alone() {
        let settings = AuthSettings {
            read_roles: vec!["reader".into(), "boss".into()],
            write_roles: vec!["sender".into()],
            delete_roles: vec![],
            administer_roles: vec!["boss".into()],
            share_roles: vec!["sharer".into()],
            ..Config::defaults().auth
        };
        let roles = Roles::of(&settings);
        for (held, expected) in [
            (&["reader"][..], &[Right::Read][..]),
            (&["sender"], &[Right::Write]),
            (&["boss"], &[Right::Read, Right::Administer]),
            (&["sharer"], &[Right::Share]),
            (&["sender", "boss"], &[Right::Read, Right::Write, Right::Administer]),
            (&["Reader", "read", ""], &[]),
            (&[], &[]),
        ] {
            assert_eq!(roles.rights(held), Rights::of(expected), "{held:?}");
        }
    }
}
