//! Shares: links that open a study, a series or some instances to people without an account.
//!
//! A link holds a secret of 144 random bits, of which only the digest is stored. Whoever opens the link gets
//! a capability (`http/auth`), which names the share. Each request by it finds the share as it was at most
//! `MAX_AGE` ago, so that a revoked share ends on every server.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use sha2::{Digest, Sha256};

use crate::archive::access::{Caller, ShareAccess, Tenant};
use crate::archive::scope::Scope;
use crate::archive::signing::random_bytes;
use crate::archive::{Archive, Error, share_code};
use crate::clock::now_millis;
use crate::dicom::uid::{InstanceUid, SeriesUid, StudyUid};
use crate::digest::hexadecimal;
pub use crate::index::shares::{SharePage, ShareRecord, SharedObjects};

/// The random bytes of a link's secret.
const SECRET_BYTES: usize = 18;
/// The time for which the state of a share is used without another look.
const MAX_AGE: Duration = Duration::from_secs(2);
/// The number of shares whose state is held.
const MAX_HELD: usize = 4096;
/// The number of deleted shares after which one more is made, at most so many times.
const MAX_SWEEPS: usize = 4;

/// A share that is to be made.
#[derive(Debug, Clone)]
pub struct NewShare {
    /// The study.
    pub study: StudyUid,
    /// Only this series.
    pub series: Option<SeriesUid>,
    /// Only these instances; empty for all.
    pub instances: Vec<InstanceUid>,
    /// Whether whole instances and zip files may be retrieved.
    pub may_download: bool,
    /// A text for those who manage shares.
    pub note: String,
    /// The seconds until the share ends; the default without.
    pub seconds: Option<u64>,
    /// The number of times that the link may be opened.
    pub max_uses: Option<u32>,
    /// The code that the link asks for.
    pub code: Option<String>,
}

/// Why a share is not made.
#[derive(Debug, thiserror::Error)]
pub enum ShareRefusal {
    /// A member of the request is wrong: its name, and the reason.
    #[error("{0} {1}")]
    Wrong(&'static str, String),
    /// There are too many shares.
    #[error("there are {limit} shares (sharing.max_shares); none of the oldest has ended")]
    TooMany {
        /// The limit in force.
        limit: usize,
    },
    /// The archive failed, or there is no such object.
    #[error(transparent)]
    Archive(#[from] Error),
}

/// The state of a share.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ShareState {
    /// The link can be opened.
    Open,
    /// The share has ended by time.
    Expired,
    /// The link was opened as often as it may be.
    UsedUp,
    /// The share was revoked.
    Revoked,
    /// There were too many wrong codes.
    Locked,
    /// Nothing that was shared is stored any more.
    Deleted,
}

impl ShareState {
    /// The name for clients.
    pub fn name(self) -> &'static str {
        match self {
            Self::Open => "open",
            Self::Expired => "expired",
            Self::UsedUp => "used-up",
            Self::Revoked => "revoked",
            Self::Locked => "locked",
            Self::Deleted => "deleted",
        }
    }
}

/// The states of shares that were read, each with the time of reading.
#[derive(Default)]
pub(in crate::archive) struct HeldShares(Mutex<HashMap<(Tenant, String), HeldShare>>);

#[derive(Clone)]
struct HeldShare {
    /// The objects and the end; `None` if the share was revoked or is not there.
    share: Option<(Arc<ShareAccess>, i64)>,
    read_at: Instant,
}

impl HeldShares {
    fn with<R>(&self, work: impl FnOnce(&mut HashMap<(Tenant, String), HeldShare>) -> R) -> R {
        work(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

/// The state of a share by its record alone.
pub fn state(record: &ShareRecord, now: i64, max_wrong_codes: u32) -> ShareState {
    if record.revoked_at.is_some() {
        ShareState::Revoked
    } else if record.expires_at <= now {
        ShareState::Expired
    } else if record.max_uses.is_some_and(|most| record.uses >= most) {
        ShareState::UsedUp
    } else if record.tries.failed >= max_wrong_codes {
        ShareState::Locked
    } else {
        ShareState::Open
    }
}

impl Archive {
    /// Makes a share of objects that the caller may see. Returns the record and the secret of the link, which
    /// is not stored.
    pub async fn make_share(
        &self,
        caller: &Caller,
        new: NewShare,
    ) -> Result<(ShareRecord, String), ShareRefusal> {
        let settings = &self.sharing;
        let code = new.code.as_deref().map(|code| share_code::check_form(code, settings)).transpose();
        let code = code.map_err(|reason| ShareRefusal::Wrong("code", reason))?;
        let most_seconds = settings.max_days.saturating_mul(24 * 60 * 60);
        let seconds = new.seconds.unwrap_or(settings.default_days.saturating_mul(24 * 60 * 60));
        if seconds == 0 || seconds > most_seconds {
            let reason = format!("is 1 to {most_seconds} (sharing.max_days)");
            return Err(ShareRefusal::Wrong("expires_in", reason));
        }
        let characters = settings.max_note_characters;
        if new.note.chars().count() > characters {
            let reason = format!("is longer than {characters} characters (sharing.max_note_characters)");
            return Err(ShareRefusal::Wrong("note", reason));
        }
        if new.max_uses == Some(0) {
            return Err(ShareRefusal::Wrong("uses", "is a number from 1".into()));
        }
        let objects = self.shared_objects(caller, &new).await?;
        self.make_room_for_share(&caller.tenant).await?;
        let code = match code {
            Some(code) => Some(share_code::hashed(code).await?),
            None => None,
        };
        let (id, secret) = (random_bytes::<8>()?, random_bytes::<SECRET_BYTES>()?);
        let secret = URL_SAFE_NO_PAD.encode(secret);
        let now = now_millis();
        let record = ShareRecord {
            id: format!("{now:012x}{}", hexadecimal(&id)),
            objects,
            may_download: new.may_download,
            note: new.note,
            created_by: caller.subject.to_string(),
            created_at: now,
            expires_at: now.saturating_add(i64::try_from(seconds).unwrap_or(i64::MAX).saturating_mul(1000)),
            revoked_at: None,
            max_uses: new.max_uses,
            uses: 0,
            used_at: None,
            link: digest_of(&secret),
            code,
            tries: Default::default(),
        };
        let detail = format!("share {} made", record.id);
        self.audit_share(caller, &record.objects.study, detail).await?;
        if !self.index.add_share(caller.tenant.as_str(), &record).await.map_err(Error::from)? {
            return Err(Error::Internal("two random identifiers are the same".into()).into());
        }
        Ok((record, secret))
    }

    /// The objects of a share that is to be made; all of them are stored.
    async fn shared_objects(&self, caller: &Caller, new: &NewShare) -> Result<SharedObjects, ShareRefusal> {
        let NewShare { study, series, instances, .. } = new;
        let limit = self.sharing.max_instances;
        if instances.len() > limit {
            let reason = format!("are more than {limit} (sharing.max_instances)");
            return Err(ShareRefusal::Wrong("instances", reason));
        }
        match series {
            Some(series) => drop(self.series(caller, study, series).await?),
            None => drop(self.study(caller, study).await?),
        }
        let mut listed: BTreeMap<SeriesUid, BTreeSet<InstanceUid>> = BTreeMap::new();
        for instance in instances {
            let place = self.locate(caller, instance).await?;
            let place = place.filter(|place| {
                place.study == *study
                    && series.as_ref().is_none_or(|only| place.series.as_ref() == Some(only))
            });
            let Some(Scope { series: Some(of), .. }) = place else {
                return Err(Error::NotFound(format!("instance {instance} in study {study}")).into());
            };
            listed.entry(of).or_default().insert(instance.clone());
        }
        let series = series.clone().filter(|_| listed.is_empty());
        Ok(SharedObjects { study: study.clone(), series, instances: listed })
    }

    /// Deletes the oldest shares that have ended, if there are as many shares as there may be.
    async fn make_room_for_share(&self, tenant: &Tenant) -> Result<(), ShareRefusal> {
        let limit = self.sharing.max_shares;
        let most_wrong = self.sharing.max_wrong_codes;
        for _ in 0..MAX_SWEEPS {
            let count = self.index.count_shares(tenant.as_str(), limit).await.map_err(Error::from)?;
            if count < limit {
                return Ok(());
            }
            let now = now_millis();
            // A link that was opened as often as it may be can still be in use.
            let is_over = move |record: &ShareRecord| {
                matches!(state(record, now, most_wrong), ShareState::Revoked | ShareState::Expired)
            };
            let deleted = self.index.delete_oldest_shares(tenant.as_str(), is_over).await;
            if deleted.map_err(Error::from)? == 0 {
                break;
            }
        }
        Err(ShareRefusal::TooMany { limit })
    }

    /// Reads at most `limit` shares of the caller's tenant, the newest first, or those older than `before`.
    pub async fn shares(
        &self,
        caller: &Caller,
        before: Option<&str>,
        limit: usize,
    ) -> Result<SharePage, Error> {
        Ok(self.index.shares(caller.tenant.as_str(), before, limit).await?)
    }

    /// A share of the caller's tenant.
    pub async fn share(&self, caller: &Caller, id: &str) -> Result<ShareRecord, Error> {
        let record = self.index.share(caller.tenant.as_str(), id).await?;
        record.ok_or_else(|| Error::NotFound("such share".into()))
    }

    /// The state of a share by its record alone.
    pub fn state_of_share(&self, record: &ShareRecord) -> ShareState {
        state(record, now_millis(), self.sharing.max_wrong_codes)
    }

    /// Revokes a share of the caller's tenant. A share that was revoked before stays so.
    pub async fn revoke_share(&self, caller: &Caller, id: &str) -> Result<(), Error> {
        let study = self.share(caller, id).await?.objects.study;
        self.audit_share(caller, &study, format!("share {id} revoked")).await?;
        let now = now_millis();
        let revoke = |record: &mut ShareRecord| {
            let is_new = record.revoked_at.is_none();
            record.revoked_at.get_or_insert(now);
            (is_new, ())
        };
        let found = self.index.change_share(caller.tenant.as_str(), id, revoke).await?;
        self.held_shares.with(|held| held.remove(&(caller.tenant.clone(), id.to_owned())));
        found.ok_or_else(|| Error::NotFound("such share".into()))
    }

    /// The caller who has opened a share, until `expires_at` (in seconds since 1970 UTC) at most. `None` if
    /// the share was revoked or has ended.
    pub async fn caller_of_share(
        &self,
        tenant: Tenant,
        id: &str,
        expires_at: i64,
    ) -> Result<Option<Caller>, Error> {
        let name = (tenant.clone(), id.to_owned());
        let held = self.held_shares.with(|held| held.get(&name).cloned());
        let held = match held.filter(|held| held.read_at.elapsed() < MAX_AGE) {
            Some(held) => held,
            None => self.read_share(name).await?,
        };
        let Some((share, ends_at)) = held.share.filter(|(_, ends_at)| now_millis() < *ends_at) else {
            return Ok(None);
        };
        Ok(Some(Caller::of_share(tenant, share, expires_at.min(ends_at.div_euclid(1000)))))
    }

    async fn read_share(&self, name: (Tenant, String)) -> Result<HeldShare, Error> {
        let read_at = Instant::now();
        let record = self.index.share(name.0.as_str(), &name.1).await?;
        let share = record.filter(|record| record.revoked_at.is_none()).map(|record| {
            let ShareRecord { id, objects, may_download, expires_at, .. } = record;
            (Arc::new(ShareAccess { id, objects, may_download }), expires_at)
        });
        let found = HeldShare { share, read_at };
        self.held_shares.with(|held| {
            if held.len() >= MAX_HELD {
                held.retain(|_, held| held.read_at.elapsed() < MAX_AGE);
            }
            if held.len() < MAX_HELD {
                held.insert(name, found.clone());
            }
        });
        Ok(found)
    }
}

/// The digest under which a link is found. The secret is random, so that one round is enough.
pub(in crate::archive) fn digest_of(secret: &str) -> String {
    hexadecimal(&Sha256::digest(secret.as_bytes()))
}
