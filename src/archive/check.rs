//! Verifying every object against the index, both ways, and building the index again from the objects.
//!
//! Both are for an archive that no server is using: they read while nothing changes.

use std::fmt;

use futures_util::{StreamExt, TryStreamExt};
use sha2::{Digest, Sha256};
use tokio::sync::Mutex;

use crate::archive::access::Tenant;
use crate::archive::store::{hexadecimal, limits, now, record};
use crate::archive::{Archive, Error, keys};
use crate::blobs::{Bucket, Entry, Key};
use crate::dicom::instance;
use crate::dicom::scan::Scanner;
use crate::index::records::{InstanceRecord, Preview, SeriesRecord, StudyRecord};
use crate::index::{Commit, Duplicates};
use crate::query::attributes::indexed;

/// Objects that are read at the same time.
const CONCURRENCY: usize = 4;

/// Something that is not as it should be. No patient data: UIDs and keys only.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Finding {
    /// An instance is in the index, its object is not in the store.
    Missing(Key),
    /// An object is not what was stored: its size or its digest differs.
    Damaged(Key),
    /// An object that nothing refers to: left by a crash, or by a replacement.
    Orphan(Key),
    /// Counts in the record of a study or series are not those of its instances.
    WrongCount(String),
    /// An object that cannot be indexed, and why.
    Unreadable(Key, String),
    /// An object whose name is not that of an original.
    Unnamed(Key),
    /// Another object, newer than this one, is stored under the same SOP Instance UID.
    Superseded(Key),
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Missing(key) => write!(f, "missing: {key}"),
            Self::Damaged(key) => write!(f, "damaged: {key}"),
            Self::Orphan(key) => write!(f, "orphan: {key}"),
            Self::WrongCount(what) => write!(f, "wrong count: {what}"),
            Self::Unreadable(key, reason) => write!(f, "cannot be indexed: {key}: {reason}"),
            Self::Unnamed(key) => write!(f, "cannot be indexed: {key}: its name is not that of an original"),
            Self::Superseded(key) => write!(f, "superseded: {key}"),
        }
    }
}

/// What a check or a reindexing went through.
#[derive(Debug, Default)]
pub struct Report {
    /// Instances that are as they should be, or that were indexed.
    pub instances: u64,
    /// Bytes of their objects.
    pub bytes: u64,
    /// All that is not as it should be.
    pub findings: Vec<Finding>,
}

impl Archive {
    /// Reads every object and compares it with the index, then looks for objects that nothing refers to.
    ///
    /// With `repair`, the rows of missing objects are removed, and orphans are settled: a whole object under a UID
    /// that the index does not know becomes an instance, for the index may be older than it; what is damaged, or was
    /// refused or replaced, is deleted. Damaged objects that the index refers to are left as they are, to be restored
    /// from a back-up. `progress` is called after each instance.
    ///
    /// # Errors
    /// If the store or the index fails; what was repaired by then stays so, and the check may be run again.
    pub async fn check(&self, repair: bool, progress: impl Fn(u64)) -> Result<Report, Error> {
        let mut report = Report::default();
        for tenant in self.index.tenants().await? {
            let Ok(tenant) = tenant.parse::<Tenant>() else { continue };
            let mut studies = self.index.studies(tenant.as_str());
            while let Some(studies) = studies.try_next().await? {
                for study in studies {
                    self.check_study(&tenant, &study, repair, &mut report, &progress).await?;
                }
            }
        }
        for bucket in [Bucket::Originals, Bucket::Previews, Bucket::Thumbnails, Bucket::Temporary] {
            let mut entries = self.blobs.list(bucket, "");
            while let Some(entry) = entries.try_next().await? {
                if !self.is_referred_to(&entry.key).await? {
                    if repair {
                        self.settle_object(&entry).await?;
                    }
                    report.findings.push(Finding::Orphan(entry.key));
                }
            }
        }
        Ok(report)
    }

    async fn check_study(
        &self,
        tenant: &Tenant,
        study: &StudyRecord,
        repair: bool,
        report: &mut Report,
        progress: &impl Fn(u64),
    ) -> Result<(), Error> {
        let series = self.index.series_of(tenant.as_str(), &study.study).await?;
        let mut total = 0;
        for series in &series {
            total += self.check_series(tenant, series, repair, report, progress).await?;
        }
        let is_exact = study.number_of_series == series.len() as u64 && study.number_of_instances == total;
        if !is_exact {
            report.findings.push(Finding::WrongCount(format!("study {}", study.study)));
        }
        Ok(())
    }

    /// Checks the instances of a series and returns how many there are.
    async fn check_series(
        &self,
        tenant: &Tenant,
        series: &SeriesRecord,
        repair: bool,
        report: &mut Report,
        progress: &impl Fn(u64),
    ) -> Result<u64, Error> {
        let SeriesRecord { study, series: uid, .. } = series;
        let mut total = 0;
        let mut pages = self.index.instances::<InstanceRecord>(tenant.as_str(), study, Some(uid));
        while let Some(page) = pages.try_next().await? {
            total += page.len() as u64;
            let mut checks = futures_util::stream::iter(&page)
                .map(|record| async move { (record, self.verify(tenant, record).await) })
                .buffer_unordered(CONCURRENCY);
            while let Some((record, verdict)) = checks.next().await {
                match verdict? {
                    None => {
                        (report.instances, report.bytes) =
                            (report.instances + 1, report.bytes + record.size_bytes)
                    }
                    Some(finding) => {
                        if repair && matches!(finding, Finding::Missing(_)) {
                            self.index
                                .remove(tenant.as_str(), study, Some(uid), Some(&record.instance))
                                .await?;
                        }
                        report.findings.push(finding);
                    }
                }
                progress(1);
            }
        }
        if total != series.number_of_instances {
            report.findings.push(Finding::WrongCount(format!("series {uid} of study {study}")));
        }
        Ok(total)
    }

    /// What is wrong with the object of an instance.
    async fn verify(&self, tenant: &Tenant, record: &InstanceRecord) -> Result<Option<Finding>, Error> {
        let key = keys::original_of(tenant, record);
        let Some(size_bytes) = self.blobs.size(&key).await? else {
            return Ok(Some(Finding::Missing(key)));
        };
        if size_bytes != record.size_bytes {
            return Ok(Some(Finding::Damaged(key)));
        }
        let mut hasher = Sha256::new();
        let mut bytes = self.blobs.read(&key, 0..size_bytes).await?;
        while let Some(chunk) = bytes.try_next().await? {
            hasher.update(&chunk);
        }
        let is_intact = hexadecimal(&hasher.finalize()) == record.digest;
        Ok((!is_intact).then_some(Finding::Damaged(key)))
    }

    pub(super) async fn is_referred_to(&self, key: &Key) -> Result<bool, Error> {
        Ok(match keys::parse(key) {
            Some(keys::Parsed::Original { tenant, study, series, instance, object }) => {
                let record = self.index.instance(tenant.as_str(), &study, &series, &instance).await?;
                record.is_some_and(|record: InstanceRecord| record.object_name() == object)
            }
            Some(keys::Parsed::Preview { tenant, study, series, generation }) => {
                let record = self.index.series(tenant.as_str(), &study, &series).await?;
                record.is_some_and(|record| {
                    matches!(record.preview, Preview::Made { generation: made, .. } if made == generation)
                })
            }
            None => match keys::study_of(key) {
                // It may show any of what is in the study, and is made again on demand.
                Some((tenant, study)) if matches!(key.bucket, Bucket::Thumbnails | Bucket::Temporary) => {
                    self.index.study(tenant.as_str(), &study).await?.is_some()
                }
                _ => false,
            },
        })
    }

    /// Commits every original to the index, which should be empty. Of several objects under one SOP Instance
    /// UID, the newest is taken.
    ///
    /// # Errors
    /// If the store or the index fails. Objects that cannot be read are findings.
    pub async fn reindex(&self, progress: impl Fn(u64)) -> Result<Report, Error> {
        let mut report = Report::default();
        let entries = self.blobs.list(Bucket::Originals, "");
        let turn = Mutex::new(());
        let mut commits = entries
            .map(|entry| async {
                let entry = entry?;
                Ok::<_, Error>((self.index_object(&entry, &turn).await?, entry))
            })
            .buffer_unordered(4 * CONCURRENCY);
        while let Some((finding, entry)) = commits.try_next().await? {
            match finding {
                None => {
                    report.instances += 1;
                    report.bytes += entry.size_bytes;
                }
                Some(finding) => report.findings.push(finding),
            }
            progress(1);
        }
        Ok(report)
    }

    /// Puts right what a killed process left. Objects that it was about to delete are deleted first. An object that was kept but not committed becomes an instance if it is
    /// whole, and is deleted if it is not: nobody was told that it was stored. Returns how many objects that were.
    ///
    /// # Errors
    /// If the store or the index fails; it may be called again.
    pub async fn settle(&self) -> Result<u64, Error> {
        self.sweep_garbage().await?;
        let mut settled = 0;
        for key in self.blobs.unsettled() {
            let Some(size_bytes) = self.blobs.size(&key).await? else { continue };
            if matches!(key.bucket, Bucket::Thumbnails | Bucket::Temporary) {
                // After a power cut it may be there in part, which nothing tells; it is made again on demand.
                self.blobs.delete(&key).await?;
                continue;
            }
            if self.is_referred_to(&key).await? {
                continue;
            }
            settled += 1;
            self.settle_object(&Entry { key, size_bytes, modified_at: now() }).await?;
        }
        Ok(settled)
    }

    /// Makes an object that nothing refers to an instance, or deletes it. One that is whole but cannot be read, as
    /// under stricter limits than those it was taken with, stays.
    async fn settle_object(&self, entry: &Entry) -> Result<(), Error> {
        match self.read_record(entry).await? {
            Ok((tenant, record)) => {
                let due_at = self.preview.enabled.then(now);
                let object = record.object_name().to_owned();
                match self.index.commit(tenant.as_str(), record, Duplicates::Reject, due_at).await? {
                    Commit::Stored | Commit::Replaced { .. } => {}
                    Commit::Same { object: known } if known == object => {}
                    Commit::Same { .. } | Commit::Different | Commit::Elsewhere => {
                        self.blobs.delete(&entry.key).await?;
                    }
                }
            }
            Err(Finding::Unreadable(..)) => {}
            // A part of an original, a preview, which is made again, or what nothing here has made.
            Err(_) => self.blobs.delete(&entry.key).await?,
        }
        Ok(())
    }

    async fn index_object(&self, entry: &Entry, turn: &Mutex<()>) -> Result<Option<Finding>, Error> {
        match self.read_record(entry).await? {
            Ok((tenant, record)) => self.commit_newest(&tenant, &entry.key, record, turn).await,
            Err(finding) => Ok(Some(finding)),
        }
    }

    /// Makes the record of an object again from its bytes, or says what is wrong with it.
    async fn read_record(&self, entry: &Entry) -> Result<Result<(Tenant, InstanceRecord), Finding>, Error> {
        let key = &entry.key;
        let unreadable = |reason: String| Ok(Err(Finding::Unreadable(key.clone(), reason)));
        let Some(keys::Parsed::Original { tenant, study, series, instance, object }) = keys::parse(key)
        else {
            return Ok(Err(Finding::Unnamed(key.clone())));
        };
        let mut scanner = Scanner::new(limits(&self.ingest));
        let mut scanned = Ok(());
        let mut hasher = Sha256::new();
        let mut bytes = self.blobs.read(key, 0..entry.size_bytes).await?;
        while let Some(chunk) = bytes.try_next().await? {
            hasher.update(&chunk);
            scanned = scanned.and_then(|()| scanner.push(&chunk));
        }
        let digest = hexadecimal(&hasher.finalize());
        if digest != keys::digest_of(&object) {
            return Ok(Err(Finding::Damaged(key.clone())));
        }
        let outline = scanned.and_then(|()| scanner.finish());
        let read = match outline.and_then(|outline| instance::read(&outline, indexed())) {
            Ok(read) => read,
            Err(failure) => return unreadable(failure.to_string()),
        };
        if (&read.study, &read.series, &read.instance) != (&study, &series, &instance) {
            return unreadable("its name is that of another instance".into());
        }
        let (mut record, _) = record(read, digest, object, &[], entry.size_bytes);
        record.stored_at = entry.modified_at;
        Ok(Ok((tenant, record)))
    }

    /// Commits an object unless a newer one has its UID. Objects that compete for a UID take turns.
    async fn commit_newest(
        &self,
        tenant: &Tenant,
        key: &Key,
        record: InstanceRecord,
        turn: &Mutex<()>,
    ) -> Result<Option<Finding>, Error> {
        let mut my_turn = None;
        let due_at = self.preview.enabled.then_some(record.stored_at);
        let mut policy = Duplicates::Reject;
        loop {
            match self.index.commit(tenant.as_str(), record.clone(), policy, due_at).await? {
                Commit::Stored => return Ok(None),
                Commit::Same { object } if object == record.object_name() => return Ok(None),
                Commit::Same { .. } => return Ok(Some(Finding::Superseded(key.clone()))),
                Commit::Replaced { object } => {
                    let InstanceRecord { study, series, instance, .. } = &record;
                    let old = keys::original(tenant, study, series, instance, &object);
                    return Ok(Some(Finding::Superseded(old)));
                }
                Commit::Elsewhere => {
                    let reason = "its SOP Instance UID is stored in another study or series";
                    return Ok(Some(Finding::Unreadable(key.clone(), reason.into())));
                }
                Commit::Different => {
                    policy = Duplicates::Replace;
                    if my_turn.is_none() {
                        my_turn = Some(turn.lock().await);
                    }
                }
            }
            let InstanceRecord { study, series, instance, .. } = &record;
            let known = self.index.instance(tenant.as_str(), study, series, instance).await?;
            if known.is_some_and(|known: InstanceRecord| known.stored_at > record.stored_at) {
                return Ok(Some(Finding::Superseded(key.clone())));
            }
        }
    }
}
