//! Links of shares: found by their secrets, and opened.

use crate::archive::access::Tenant;
use crate::archive::share_code::{CodeCheck, CodeTry};
use crate::archive::shares::{ShareRecord, ShareState, SharedObjects, digest_of, state};
use crate::archive::{Archive, Error, share_code};
use crate::clock::now_millis;
use crate::dicom::attributes::Attributes;
use crate::dicom::tags;

/// A link whose share was found.
#[derive(Debug)]
pub struct FoundLink {
    /// The tenant of the share.
    pub tenant: Tenant,
    /// The share.
    pub record: ShareRecord,
    /// The state.
    pub state: ShareState,
    /// The attributes of the study; empty if nothing that was shared is stored.
    pub attributes: Attributes,
    /// The modalities of what is shared.
    pub modalities: Vec<String>,
}

/// The outcome of opening a link.
#[derive(Debug)]
pub enum OpenedLink {
    /// The caller may see what is shared.
    Opened(Box<FoundLink>),
    /// The code is wrong or missing; the number of tries that are left.
    WrongCode {
        /// The tries that are left before the link is locked.
        left: u32,
    },
    /// There were too many tries in this minute.
    TooManyTries,
    /// The share is not open.
    Closed(ShareState),
    /// There is no such link.
    NotFound,
}

impl Archive {
    /// The share of a link, by the link's secret; `None` if there is no such link.
    pub async fn find_link(&self, secret: &str) -> Result<Option<FoundLink>, Error> {
        let Some((tenant, id)) = self.index.find_share_link(&digest_of(secret)).await? else {
            return Ok(None);
        };
        let Ok(tenant) = tenant.parse::<Tenant>() else { return Ok(None) };
        let Some(record) = self.index.share(tenant.as_str(), &id).await? else { return Ok(None) };
        self.described_link(tenant, record).await.map(Some)
    }

    /// A share with what its page shows.
    async fn described_link(&self, tenant: Tenant, record: ShareRecord) -> Result<FoundLink, Error> {
        let mut state = self.state_of_share(&record);
        let SharedObjects { study, series, instances } = &record.objects;
        let (attributes, mut modalities) = match self.index.study(tenant.as_str(), study).await? {
            Some(found) => (found.attributes, found.modalities.into_keys().collect()),
            None => (Attributes::new(), Vec::new()),
        };
        let mut is_there = !attributes.is_empty() || !modalities.is_empty();
        if series.is_some() || !instances.is_empty() {
            modalities = Vec::new();
            is_there = false;
            for one in series.iter().chain(instances.keys()) {
                let Some(found) = self.index.series(tenant.as_str(), study, one).await? else { continue };
                is_there = true;
                let modality = found.attributes.get(&tags::MODALITY);
                modalities.extend(modality.and_then(|modality| modality.first_text()).map(str::to_owned));
            }
            modalities.sort_unstable();
            modalities.dedup();
        }
        if state == ShareState::Open && !is_there {
            state = ShareState::Deleted;
        }
        Ok(FoundLink { tenant, record, state, attributes, modalities })
    }

    /// Opens a link: checks the code, if the share has one, and counts the use. `address` is the client's,
    /// for the audit log.
    pub async fn open_link(
        &self,
        secret: &str,
        code: Option<&str>,
        address: &str,
    ) -> Result<OpenedLink, Error> {
        let Some(found) = self.find_link(secret).await? else { return Ok(OpenedLink::NotFound) };
        if found.state != ShareState::Open {
            return Ok(OpenedLink::Closed(found.state));
        }
        let (tenant, id) = (found.tenant.as_str(), found.record.id.as_str());
        // Guests wait for each other here, so that a revocation, which does not wait, meets one of them at
        // most.
        let _turn = self.link_locks.lock(id.to_owned()).await;
        if let Some(hash) = &found.record.code {
            let Some(code) = code else {
                let left = self.sharing.max_wrong_codes.saturating_sub(found.record.tries.failed);
                return Ok(OpenedLink::WrongCode { left });
            };
            // The try is counted before the code is compared, so that no more tries than allowed can be made
            // at the same time.
            let settings = self.sharing.clone();
            let counted = self.index.change_share(tenant, id, |record| {
                let counted = CodeTry::count(&mut record.tries, now_millis(), &settings);
                (counted == CodeTry::Counted, counted)
            });
            match counted.await? {
                Some(CodeTry::Counted) => {}
                Some(CodeTry::TooMany) => return Ok(OpenedLink::TooManyTries),
                Some(CodeTry::Locked) => return Ok(OpenedLink::Closed(ShareState::Locked)),
                None => return Ok(OpenedLink::NotFound),
            }
            if let CodeCheck::Wrong = share_code::check(code, hash.clone()).await? {
                self.audit_link(&found.tenant, &found.record, address, false).await?;
                let left = settings.max_wrong_codes.saturating_sub(found.record.tries.failed + 1);
                return Ok(OpenedLink::WrongCode { left });
            }
        }
        let opened = self.count_use(found).await?;
        if let OpenedLink::Opened(link) = &opened {
            self.audit_link(&link.tenant, &link.record, address, true).await?;
        }
        Ok(opened)
    }

    /// Counts a use of a link, and takes back the failure that was counted for a right code.
    async fn count_use(&self, found: FoundLink) -> Result<OpenedLink, Error> {
        let (now, most_wrong) = (now_millis(), self.sharing.max_wrong_codes);
        let had_code = found.record.code.is_some();
        let counted = self.index.change_share(found.tenant.as_str(), &found.record.id, |record| {
            if had_code {
                record.tries.failed = record.tries.failed.saturating_sub(1);
            }
            let state = state(record, now, most_wrong);
            if state == ShareState::Open {
                record.uses = record.uses.saturating_add(1);
                record.used_at = Some(now);
            }
            (state == ShareState::Open || had_code, state)
        });
        Ok(match counted.await? {
            Some(ShareState::Open) => OpenedLink::Opened(Box::new(found)),
            Some(state) => OpenedLink::Closed(state),
            None => OpenedLink::NotFound,
        })
    }
}
