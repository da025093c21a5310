//! Who asks: the tenant is part of every key and comes from here alone.

use std::str::FromStr;

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

/// An authenticated caller.
#[derive(Debug, Clone)]
pub struct Caller {
    /// The tenant whose objects it may see.
    pub tenant: Tenant,
}

impl Caller {
    /// The caller of a server without authentication.
    pub fn anonymous() -> Self {
        Self { tenant: Tenant::default_tenant() }
    }
}
