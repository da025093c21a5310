//! The instances that the identifier of a C-MOVE or C-GET selects (PS3.4 §C.4.2.2, §C.4.3.2).

use std::collections::BTreeSet;

use futures_util::TryStreamExt;
use tokio::task::coop::consume_budget;

use crate::archive::access::Caller;
use crate::archive::scope::Scope;
use crate::archive::{Archive, Error};
use crate::dicom::attributes::{Attribute, Attributes, Tag};
use crate::dicom::tags;
use crate::dicom::uid::{InstanceUid, SeriesUid, StudyUid};
use crate::dimse::command::Status;
use crate::dimse::identifier::{Identifier, QueryLevel};
use crate::dimse::models::ModelRoot;
use crate::dimse::service::ServiceRequest;
use crate::dimse::status::{self, WrongIdentifier};
use crate::query::parameters::{self, ResultLimits, SearchTarget};
use crate::query::{Level, Query};

/// The results of a page of a search for what to retrieve.
const PAGE_RESULTS: usize = 500;

/// The instances to send.
#[derive(Debug, Default)]
pub(super) struct Selection {
    /// Their studies, series or they themselves; they may have been deleted.
    pub(super) scopes: Vec<Scope>,
    /// Their number.
    pub(super) count: usize,
    /// Their SOP classes, each with the transfer syntaxes in which they are stored.
    pub(super) kinds: BTreeSet<(String, String)>,
}

impl Selection {
    /// The studies of the instances.
    pub(super) fn studies(&self) -> BTreeSet<StudyUid> {
        self.scopes.iter().map(|scope| scope.study.clone()).collect()
    }
}

/// Finds the instances that an identifier selects.
///
/// # Errors
/// The status of the response, if a key is missing or not valid, or the archive fails.
pub(super) async fn select(
    service: &ServiceRequest,
    root: ModelRoot,
    identifier: &Identifier,
) -> Result<Selection, Status> {
    if !service.context.options.is_relational {
        identifier.check_hierarchy(root)?;
    }
    let (archive, caller) = (&service.acceptor.archive, &service.caller);
    let scopes = match identifier.level {
        QueryLevel::Patient => of_patient(archive, caller, identifier).await?,
        QueryLevel::Study => uids(identifier, tags::STUDY_INSTANCE_UID)?
            .into_iter()
            .map(|study| Scope { study, series: None, instance: None })
            .collect(),
        QueryLevel::Series => of_series(archive, caller, identifier).await?,
        QueryLevel::Image => of_instances(archive, caller, identifier).await?,
    };
    count(archive, caller, scopes).await.map_err(|error| status::of_failed_selection(&error))
}

async fn of_patient(
    archive: &Archive,
    caller: &Caller,
    identifier: &Identifier,
) -> Result<Vec<Scope>, Status> {
    let missing = || status::of_identifier(WrongIdentifier::NoSelection(tags::PATIENT_ID));
    let id = identifier.single(tags::PATIENT_ID)?.ok_or_else(missing)?;
    let query = query(Level::Study, &[(tags::PATIENT_ID, &id)])?;
    let scope = |found: &Attributes| {
        let is_same = found.get(&tags::PATIENT_ID).and_then(Attribute::first_text) == Some(id.as_str());
        let study = uid(found, tags::STUDY_INSTANCE_UID).filter(|_| is_same)?;
        Some(Scope { study, series: None, instance: None })
    };
    search(archive, caller, query, scope).await
}

async fn of_series(
    archive: &Archive,
    caller: &Caller,
    identifier: &Identifier,
) -> Result<Vec<Scope>, Status> {
    let series: Vec<SeriesUid> = uids(identifier, tags::SERIES_INSTANCE_UID)?;
    if let Some(study) = parent::<StudyUid>(identifier, tags::STUDY_INSTANCE_UID)? {
        let scope = |series| Scope { study: study.clone(), series: Some(series), instance: None };
        return Ok(series.into_iter().map(scope).collect());
    }
    let list = identifier.text(tags::SERIES_INSTANCE_UID);
    let query = query(Level::Series, &[(tags::SERIES_INSTANCE_UID, &list)])?;
    let scope = |found: &Attributes| {
        let study = uid(found, tags::STUDY_INSTANCE_UID)?;
        Some(Scope { study, series: Some(uid(found, tags::SERIES_INSTANCE_UID)?), instance: None })
    };
    search(archive, caller, query, scope).await
}

async fn of_instances(
    archive: &Archive,
    caller: &Caller,
    identifier: &Identifier,
) -> Result<Vec<Scope>, Status> {
    let study = parent::<StudyUid>(identifier, tags::STUDY_INSTANCE_UID)?;
    let series = parent::<SeriesUid>(identifier, tags::SERIES_INSTANCE_UID)?;
    let mut scopes = Vec::new();
    for instance in uids::<InstanceUid>(identifier, tags::SOP_INSTANCE_UID)? {
        if let (Some(study), Some(series)) = (&study, &series) {
            let (study, series) = (study.clone(), Some(series.clone()));
            scopes.push(Scope { study, series, instance: Some(instance) });
            continue;
        }
        // There may be some thousand of them, and each may be found without a wait.
        consume_budget().await;
        let permit = archive.permits().query(caller).await;
        let found = archive.locate(caller, &instance).await;
        drop(permit);
        let found = found.map_err(|error| status::of_failed_selection(&error))?;
        let is_within = |scope: &Scope| {
            study.as_ref().is_none_or(|study| *study == scope.study)
                && series.as_ref().is_none_or(|series| Some(series) == scope.series.as_ref())
        };
        scopes.extend(found.filter(is_within));
    }
    Ok(scopes)
}

/// The UIDs of the unique key of the level, each once.
fn uids<T: std::str::FromStr + Ord>(identifier: &Identifier, tag: Tag) -> Result<Vec<T>, Status> {
    let text = identifier.text(tag);
    let parts = text.split('\\').map(str::trim).filter(|part| !part.is_empty());
    let wrong = |_| status::of_identifier(WrongIdentifier::NotSingle(tag));
    let uids = parts.map(|part| part.parse::<T>().map_err(wrong)).collect::<Result<BTreeSet<T>, _>>()?;
    match uids.is_empty() {
        true => Err(status::of_identifier(WrongIdentifier::NoSelection(tag))),
        false => Ok(uids.into_iter().collect()),
    }
}

/// The UID of a level above; `None` if it is missing.
fn parent<T: std::str::FromStr>(identifier: &Identifier, tag: Tag) -> Result<Option<T>, Status> {
    let wrong = |_| status::of_identifier(WrongIdentifier::NotSingle(tag));
    identifier.single(tag)?.map(|text| text.parse().map_err(wrong)).transpose()
}

fn uid<T: std::str::FromStr>(found: &Attributes, tag: Tag) -> Option<T> {
    found.get(&tag).and_then(Attribute::first_text)?.parse().ok()
}

fn query(level: Level, keys: &[(Tag, &str)]) -> Result<Query, Status> {
    let target = SearchTarget { joins_dates_and_times: false, level, study: None, series: None };
    let pairs: Vec<_> = keys.iter().map(|(tag, value)| (tag.to_string(), (*value).to_owned())).collect();
    let limits = ResultLimits { default: PAGE_RESULTS, max: PAGE_RESULTS };
    parameters::read(&pairs, target, limits).map_err(|error| status::of_key(&error))
}

async fn search(
    archive: &Archive,
    caller: &Caller,
    mut query: Query,
    scope: impl Fn(&Attributes) -> Option<Scope> + Send + Sync,
) -> Result<Vec<Scope>, Status> {
    let mut scopes = Vec::new();
    loop {
        let mut sink = |found: Attributes| {
            scopes.extend(scope(&found));
            true
        };
        let permit = archive.permits().query(caller).await;
        let found = archive.search(caller, &query, &mut sink).await;
        drop(permit);
        query.after = found.map_err(|error| status::of_failed_selection(&error))?.next;
        if query.after.is_none() {
            return Ok(scopes);
        }
    }
}

/// Counts the instances, and collects what they are.
async fn count(archive: &Archive, caller: &Caller, scopes: Vec<Scope>) -> Result<Selection, Error> {
    let mut selection = Selection::default();
    for scope in scopes {
        consume_budget().await;
        let permit = archive.permits().query(caller).await;
        let mut pages = match archive.instance_kinds(caller, &scope).await {
            Ok(pages) => pages,
            Err(Error::NotFound(_)) => continue,
            Err(error) => return Err(error),
        };
        drop(permit);
        loop {
            let _permit = archive.permits().query(caller).await;
            let Some(page) = pages.try_next().await? else { break };
            selection.count += page.len();
            selection.kinds.extend(page.into_iter().map(|kind| (kind.sop_class, kind.transfer_syntax)));
        }
        selection.scopes.push(scope);
    }
    Ok(selection)
}
