//! Who asks, and what it may do: the tenant is part of every key and comes from here alone.

use std::sync::Arc;

use crate::config::AuthSettings;
pub use crate::config::{NotATenant, Tenant};

/// What a caller may do.
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
}

impl Right {
    /// Its name, as settings and messages have it.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Read => "read",
            Self::Write => "write",
            Self::Delete => "delete",
            Self::Administer => "administer",
        }
    }
}

/// A set of rights.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Rights(u8);

impl Rights {
    /// All of them.
    pub const ALL: Self = Self::of(&[Right::Read, Right::Write, Right::Delete, Right::Administer]);
    /// Those of a device that is known by its AE title: it stores, and may look for what it stored.
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

    /// Whether a right is among them.
    pub const fn include(self, right: Right) -> bool {
        self.0 & (1 << right as u8) != 0
    }
}

/// Which roles give which right: the one table of both, made of the settings.
#[derive(Debug, Clone)]
pub struct Roles([(Right, Vec<String>); 4]);

impl Roles {
    /// The table that the settings describe.
    pub fn of(settings: &AuthSettings) -> Self {
        Self([
            (Right::Read, settings.read_roles.clone()),
            (Right::Write, settings.write_roles.clone()),
            (Right::Delete, settings.delete_roles.clone()),
            (Right::Administer, settings.administer_roles.clone()),
        ])
    }

    /// The rights of whoever has these roles. No right includes another, and roles that are not in the table give none.
    pub fn rights(&self, held: &[&str]) -> Rights {
        let given = self.0.iter().filter(|(_, roles)| roles.iter().any(|role| held.contains(&role.as_str())));
        Rights::of(&given.map(|(right, _)| *right).collect::<Vec<_>>())
    }
}

/// Who asks. Nothing in the archive is read or changed without one.
#[derive(Debug, Clone)]
pub struct Caller {
    /// The tenant whose objects it may see.
    pub tenant: Tenant,
    /// Who it is, as the token or the association says; empty if that says nothing. No patient.
    pub subject: Arc<str>,
    /// The address of a client without authentication, empty for others: clients share the decoders fairly, and with
    /// authentication tenants do.
    pub client: Arc<str>,
    /// What it may do. Doors ask this before they call the archive.
    pub rights: Rights,
}

impl Caller {
    /// The caller of a server without authentication.
    pub fn anonymous() -> Self {
        Self::server(Tenant::default_tenant())
    }

    /// The server itself, at work for a tenant.
    pub fn server(tenant: Tenant) -> Self {
        Self { tenant, subject: "".into(), client: "".into(), rights: Rights::ALL }
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
            ..Config::defaults().auth
        };
        let roles = Roles::of(&settings);
        for (held, expected) in [
            (&["reader"][..], &[Right::Read][..]),
            (&["sender"], &[Right::Write]),
            (&["boss"], &[Right::Read, Right::Administer]),
            (&["sender", "boss"], &[Right::Read, Right::Write, Right::Administer]),
            (&["Reader", "read", ""], &[]),
            (&[], &[]),
        ] {
            assert_eq!(roles.rights(held), Rights::of(expected), "{held:?}");
        }
    }
}
