//! Verifying every object against the index, both ways, while servers go on.

use std::time::Duration;

use futures_util::{StreamExt, TryStreamExt, stream};
use serde::Deserialize;

use crate::archive::access::Tenant;
use crate::archive::maintenance::orphans::{ORPHAN_AGE, ObjectReference, is_referred_to, standing};
use crate::archive::maintenance::recovery::recover_object;
use crate::archive::maintenance::report::{Finding, Report};
use crate::archive::maintenance::verify::{Hashing, StoredObject, verify};
use crate::archive::{Archive, Error, keys};
use crate::blobs::{Bucket, Key};
use crate::clock;
use crate::dicom::uid::StudyUid;
use crate::index;
use crate::index::records::{SeriesRecord, StudyRecord};
use crate::index::usage::UsageRecount;

/// Studies that are checked at the same time, and instances of each.
const STUDIES: usize = 4;
const INSTANCES: usize = 4;
/// Objects that are looked up at the same time.
const OBJECTS: usize = 16;
/// Times that a study which is being changed is counted.
const MAX_COUNTS: usize = 8;

/// The options of a check.
#[derive(Debug, Clone, Copy)]
pub struct CheckOptions {
    /// Whether what can be put right is.
    pub is_repairing: bool,
    /// Whether no server and no worker is using the archive, so that nothing is about to be committed.
    pub is_alone: bool,
}

/// The state of a check of a tenant's studies.
struct CheckContext<'a, P> {
    tenant: Tenant,
    manner: CheckOptions,
    progress: &'a P,
}

/// As much of a record as it takes to count it.
#[derive(Deserialize)]
struct Counted {}

/// Reads every object and compares it with the index, then looks for objects that nothing refers to.
///
/// Servers may go on meanwhile. What does not agree is looked at again before it is a finding, so that all
/// findings are certain; what comes or changes meanwhile may have been looked at or not.
///
/// When it repairs, the rows of missing objects are removed, and orphans are settled: a whole object under a
/// UID that the index does not know becomes an instance, for the index may be older than it; what is damaged,
/// or was refused or replaced, is deleted. Damaged objects that the index refers to are left as they are, to
/// be restored from a back-up. `progress` is called after each instance.
///
/// # Errors
/// If the store or the index fails; what was repaired by then stays so, and the check may be run again.
pub async fn check(archive: &Archive, repair: bool, progress: impl Fn(u64)) -> Result<Report, Error> {
    check_as(archive, CheckOptions { is_repairing: repair, is_alone: !archive.is_shared }, progress).await
}

/// Checks as [`check`] does, in a certain manner.
///
/// # Errors
/// As there.
pub async fn check_as(
    archive: &Archive,
    manner: CheckOptions,
    progress: impl Fn(u64),
) -> Result<Report, Error> {
    let mut report = Report::default();
    for tenant in archive.index.tenants().await? {
        let Ok(tenant) = tenant.parse::<Tenant>() else { continue };
        let walk = &CheckContext { tenant, manner, progress: &progress };
        let mut pages = archive.index.readable_studies(walk.tenant.as_str());
        while let Some(page) = pages.try_next().await? {
            let studies = report.readable(page)?;
            let mut checks = stream::iter(&studies)
                .map(|study| check_study(archive, walk, study))
                .buffer_unordered(STUDIES);
            while let Some(checked) = checks.next().await {
                report.add(checked?);
            }
        }
        check_days(archive, walk, &mut report).await?;
        check_usage(archive, walk, &mut report).await?;
    }
    for bucket in [Bucket::Originals, Bucket::Previews, Bucket::Thumbnails, Bucket::Temporary] {
        check_objects(archive, bucket, manner, &mut report).await?;
    }
    Ok(report)
}

/// Compares the counters of studies by day with the studies.
async fn check_days(
    archive: &Archive,
    walk: &CheckContext<'_, impl Fn(u64)>,
    report: &mut Report,
) -> Result<(), Error> {
    let tenant = walk.tenant.as_str();
    let recount = archive.index.recount(tenant, walk.manner.is_repairing).await?;
    if recount.was_uncounted {
        report.findings.push(Finding::Uncounted(format!("tenant {tenant}")));
    }
    report.uncounted += recount.uncertain_days as u64;
    let wrong = recount.wrong_days.into_iter();
    let finding = |day: String| Finding::WrongDayCount(format!("day `{day}` of tenant {tenant}"));
    report.findings.extend(wrong.map(finding));
    Ok(())
}

/// Compares the amount that a tenant has stored with the studies, unless their records have faults.
async fn check_usage(
    archive: &Archive,
    walk: &CheckContext<'_, impl Fn(u64)>,
    report: &mut Report,
) -> Result<(), Error> {
    if !report.findings.is_empty() {
        return Ok(());
    }
    let tenant = walk.tenant.as_str();
    match archive.index.recount_usage(tenant, walk.manner.is_repairing).await? {
        // On a server that stores all the time, the amount can hardly be compared. That is no fault.
        UsageRecount::Right | UsageRecount::Uncertain => {}
        UsageRecount::Wrong => report.findings.push(Finding::WrongUsage(format!("tenant {tenant}"))),
        UsageRecount::Uncounted => report.findings.push(Finding::UncountedUsage(format!("tenant {tenant}"))),
    }
    Ok(())
}

async fn check_study(
    archive: &Archive,
    walk: &CheckContext<'_, impl Fn(u64)>,
    study: &StudyRecord,
) -> Result<Report, Error> {
    let mut report = Report::default();
    let rows = archive.index.readable_series(walk.tenant.as_str(), &study.study).await?;
    let number_of_rows = rows.len();
    let series = report.readable(rows)?;
    let (mut total, mut is_exact) = (0, true);
    if series.len() < number_of_rows {
        // The counts cannot be compared.
        for series in &series {
            check_series(archive, walk, series, &mut report).await?;
        }
        return Ok(report);
    }
    for series in &series {
        let count = check_series(archive, walk, series, &mut report).await?;
        is_exact &= count == series.number_of_instances;
        total += count;
    }
    is_exact &= study.number_of_series == series.len() as u64 && study.number_of_instances == total;
    if !is_exact {
        count_again(archive, &walk.tenant, &study.study, &mut report).await?;
    }
    Ok(report)
}

/// Checks the instances of a series and returns how many there are.
async fn check_series(
    archive: &Archive,
    walk: &CheckContext<'_, impl Fn(u64)>,
    series: &SeriesRecord,
    report: &mut Report,
) -> Result<u64, Error> {
    let tenant = &walk.tenant;
    let mut total = 0;
    let mut pages = archive.index.readable_instances(tenant.as_str(), &series.study, &series.series);
    while let Some(page) = pages.try_next().await? {
        total += page.len() as u64;
        let page = report.readable(page)?;
        let mut checks = stream::iter(&page)
            .map(|record| async move {
                let object = StoredObject::of(record);
                (record, verify(archive, tenant, &object, Hashing::OnBlockingThreads).await)
            })
            .buffer_unordered(INSTANCES);
        while let Some((record, verdict)) = checks.next().await {
            match verdict? {
                None => {
                    (report.instances, report.bytes) =
                        (report.instances + 1, report.bytes + record.size_bytes)
                }
                Some(finding) => {
                    if walk.manner.is_repairing && matches!(finding, Finding::Missing(_)) {
                        archive.index.remove_lost(tenant.as_str(), record).await?;
                    }
                    report.findings.push(finding);
                }
            }
            (walk.progress)(1);
        }
    }
    Ok(total)
}

/// Counts a study again whose counts did not agree. Whatever is stored in it or deleted changes its
/// generation: where that is the same before and after, nothing was.
async fn count_again(
    archive: &Archive,
    tenant: &Tenant,
    study: &StudyUid,
    report: &mut Report,
) -> Result<(), Error> {
    let tenant = tenant.as_str();
    for _ in 0..MAX_COUNTS {
        let Some(before) = archive.index.study(tenant, study).await? else { return Ok(()) };
        let (mut wrong, mut total) = (Vec::new(), 0);
        let series = archive.index.series_of(tenant, study).await?;
        for SeriesRecord { series: uid, number_of_instances, .. } in &series {
            let pages = archive.index.readable_instances::<Counted>(tenant, study, uid);
            let count = pages.try_fold(0, async |sum, page| Ok(sum + page.len() as u64)).await?;
            if count != *number_of_instances {
                wrong.push(Finding::WrongCount(format!("series {uid} of study {study}")));
            }
            total += count;
        }
        if before.number_of_series != series.len() as u64 || before.number_of_instances != total {
            wrong.push(Finding::WrongCount(format!("study {study}")));
        }
        let after = archive.index.study(tenant, study).await?;
        if after.is_some_and(|after| after.generation == before.generation) {
            report.findings.extend(wrong);
            return Ok(());
        }
    }
    report.uncounted += 1;
    Ok(())
}

/// Looks for objects of a bucket that nothing refers to, and for studies of originals that cannot be found.
async fn check_objects(
    archive: &Archive,
    bucket: Bucket,
    manner: CheckOptions,
    report: &mut Report,
) -> Result<(), Error> {
    let mut last_study = None;
    let entries = archive.blobs.list(bucket, "").map_err(Error::from);
    let mut standings = entries
        .map_ok(|entry| async move { Ok((standing(archive, &entry, manner.is_alone).await?, entry)) })
        .try_buffered(OBJECTS);
    while let Some((standing, entry)) = standings.try_next().await? {
        match standing {
            ObjectReference::Live if bucket == Bucket::Originals => {
                let study = keys::study_of(&entry.key);
                if study != last_study {
                    last_study = study;
                    report.findings.extend(check_listing(archive, &entry.key, manner).await?);
                }
            }
            ObjectReference::Live | ObjectReference::BeingDeleted => {}
            ObjectReference::TooRecent => report.recent += 1,
            ObjectReference::Orphaned => {
                if manner.is_repairing {
                    recover_object(archive, &entry).await?;
                }
                report.findings.push(Finding::Orphan(entry.key));
            }
        }
    }
    Ok(())
}

/// Whether the study of an object that an instance refers to can be found.
async fn check_listing(archive: &Archive, key: &Key, manner: CheckOptions) -> Result<Option<Finding>, Error> {
    let Some((tenant, study)) = keys::study_of(key) else { return Ok(None) };
    let unlisted = Some(Finding::Unlisted(format!("study {study} of {}", tenant.as_str())));
    let record = match archive.index.study(tenant.as_str(), &study).await {
        // The walk of the studies names the row.
        Err(index::Error::Record { .. }) => return Ok(None),
        record => record?,
    };
    let Some(record) = record else {
        // It goes with its last instance.
        return Ok(if is_referred_to(archive, key).await? { unlisted } else { None });
    };
    // The list may follow the study a moment later.
    let age = Duration::from_millis(ORPHAN_AGE as u64);
    let listed_by = record.changed_at.saturating_add(ORPHAN_AGE);
    let is_settled = manner.is_alone || clock::has_come(listed_by, clock::now_millis(), age);
    let is_listed = !is_settled || archive.index.is_listed(tenant.as_str(), &record).await?;
    Ok(if is_listed { None } else { unlisted })
}
