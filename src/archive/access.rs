//! Who asks, and what it may do: the tenant is part of every key and comes from here alone.

use std::str::FromStr;
use std::sync::Arc;

use crate::config::Auth;

/// A tenant (a clinic), by the name that stands in keys: 1 to 64 of `a-z 0-9 -`.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Tenant(Box<str>);

impl Tenant {
    /// The tenant of a server without authentication.
    pub fn default_tenant() -> Self {
        Self("default".into())
    }

    /// Its name in keys.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

/// Reads a tenant's name, as it stands in a key.
impl FromStr for Tenant {
    type Err = NotATenant;

    fn from_str(name: &str) -> Result<Self, NotATenant> {
        let is_plain = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-';
        if (1..=64).contains(&name.len()) && name.bytes().all(is_plain) {
            Ok(Self(name.into()))
        } else {
            Err(NotATenant)
        }
    }
}

/// A name that no tenant can have.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("a tenant's name is 1 to 64 of a-z, 0-9 and -")]
pub struct NotATenant;

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
    pub fn of(settings: &Auth) -> Self {
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
        Self { tenant, subject: "".into(), rights: Rights::ALL }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Config;

    #[test]
    fn each_right_comes_from_its_own_roles_alone() {
        let settings = Auth {
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

    #[test]
    fn names_that_could_leave_a_key_are_no_tenants() {
        for name in ["", "A", "a/b", "a.b", "..", "a b", "\u{e9}", &"a".repeat(65)] {
            assert!(name.parse::<Tenant>().is_err(), "{name}");
        }
        assert_eq!("clinic-7".parse::<Tenant>().unwrap().as_str(), "clinic-7");
    }
}
