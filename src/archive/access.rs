//! Who asks: the tenant is part of every key and comes from here alone.

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
