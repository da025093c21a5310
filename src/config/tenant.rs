//! The names of tenants.

use std::str::FromStr;

/// A tenant (a clinic), by the name that stands in keys: 1 to 64 of `a-z 0-9 -`.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Tenant(Box<str>);

impl Tenant {
    /// The tenant of a server without authentication.
    pub fn default_tenant() -> Self {
        Self("default".into())
    }

    /// The name, as it stands in keys.
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_that_could_leave_a_key_are_no_tenants() {
        for name in ["", "A", "a/b", "a.b", "..", "a b", "\u{e9}", &"a".repeat(65)] {
            assert!(name.parse::<Tenant>().is_err(), "{name}");
        }
        assert_eq!("clinic-7".parse::<Tenant>().unwrap().as_str(), "clinic-7");
    }
}
