//! Secrets of tenants: random bytes that are made on their first use, and stay.

use uuid::Uuid;

use crate::index::{Error, Index, keys};
use crate::table::{self, Expect, Item, Write};

/// The bytes of a secret.
pub const SECRET_BYTES: usize = 32;
/// The attempts to write a secret that another process may be writing at the same time.
const MAX_ATTEMPTS: u32 = 5;

impl Index {
    /// The secret of a tenant from which replacements in de-identified copies are made. All processes have
    /// the same.
    ///
    /// # Errors
    /// [`Error::Table`]; [`Error::Interrupted`] if other writers are always in between.
    pub async fn pseudonym_secret(&self, tenant: &str) -> Result<[u8; SECRET_BYTES], Error> {
        for _ in 0..MAX_ATTEMPTS {
            let key = keys::pseudonym_secret(tenant);
            if let Some(item) = self.table.get(&[key]).await?.pop().flatten()
                && let Ok(secret) = item.body.as_slice().try_into()
            {
                return Ok(secret);
            }
            self.set_pseudonym_secret(tenant, new_secret()).await?;
        }
        Err(Error::Interrupted)
    }

    /// Writes the secret of a tenant, unless the tenant has one.
    async fn set_pseudonym_secret(&self, tenant: &str, secret: [u8; SECRET_BYTES]) -> Result<(), Error> {
        let key = keys::pseudonym_secret(tenant);
        let item = Item { key, version: 1, secondary: Vec::new(), body: secret.to_vec() };
        match self.table.transact(vec![Write::Put(item, Expect::Absent)]).await {
            // The one that another process has written counts.
            Ok(()) | Err(table::Error::Conflict(_)) => Ok(()),
            Err(error) => Err(error.into()),
        }
    }

    /// The secrets of all tenants that have one.
    pub async fn pseudonym_secrets(&self) -> Result<Vec<(String, [u8; SECRET_BYTES])>, Error> {
        let mut secrets = Vec::new();
        for tenant in self.tenants().await? {
            let item = self.table.get(&[keys::pseudonym_secret(&tenant)]).await?.pop().flatten();
            if let Some(secret) = item.and_then(|item| item.body.as_slice().try_into().ok()) {
                secrets.push((tenant, secret));
            }
        }
        Ok(secrets)
    }

    /// Takes over the secrets of another index, as far as tenants have none here.
    pub async fn take_pseudonym_secrets(
        &self,
        secrets: Vec<(String, [u8; SECRET_BYTES])>,
    ) -> Result<(), Error> {
        for (tenant, secret) in secrets {
            self.set_pseudonym_secret(&tenant, secret).await?;
        }
        Ok(())
    }
}

/// A secret of random bytes of the operating system: three UUIDs have 366 random bits.
fn new_secret() -> [u8; SECRET_BYTES] {
    let mut hasher = blake3::Hasher::new();
    for _ in 0..3 {
        hasher.update(Uuid::new_v4().as_bytes());
    }
    *hasher.finalize().as_bytes()
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use futures_util::future::join_all;

    use super::*;
    use crate::index::engine_tests::{Engine, on_each_engine};

    on_each_engine! {
        all_processes_have_the_same_secret_of_a_tenant,
    }

    async fn all_processes_have_the_same_secret_of_a_tenant(engine: Engine) {
        let indexes: Vec<_> = (0..4).map(|_| Index::new(Arc::clone(&engine.table))).collect();
        let secrets = join_all(indexes.iter().map(|index| index.pseudonym_secret("a"))).await;
        let first = *secrets[0].as_ref().unwrap();
        assert!(secrets.into_iter().all(|secret| secret.unwrap() == first));
        assert_ne!(indexes[0].pseudonym_secret("b").await.unwrap(), first);
        assert_ne!(first, [0; SECRET_BYTES]);
        indexes[1].take_pseudonym_secrets(vec![("a".into(), [9; 32]), ("c".into(), [9; 32])]).await.unwrap();
        assert_eq!(indexes[2].pseudonym_secret("a").await.unwrap(), first);
        assert_eq!(indexes[2].pseudonym_secret("c").await.unwrap(), [9; 32]);
    }
}
