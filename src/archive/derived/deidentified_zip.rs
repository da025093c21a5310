//! A zip file of de-identified copies. The UIDs in its names are those of the copies.

use std::ops::RangeInclusive;
use std::sync::Arc;

use futures_util::{FutureExt, TryStreamExt};

use crate::archive::access::Caller;
use crate::archive::derived::deidentified::{
    CopyForm, CopySurvey, copy_of, deidentified_file_in_any_form, replaced, suitable,
};
use crate::archive::read::zip_download::{
    EntryMaker, MadeEntry, NumberOrder, ZipStream, at_most, at_positions, made, numbers,
};
use crate::archive::scope::Scope;
use crate::archive::{Archive, Error};
use crate::dicom::deidentify::Deidentifier;
use crate::dicom::uid::{InstanceUid, SeriesUid, StudyUid};
use crate::index::records::InstanceRecord;

/// The name of the text file about instances that are left out.
const LEFT_OUT: &str = "LEFT-OUT.TXT";

/// A zip file of copies, to be read.
pub struct CopiesZip {
    /// Its bytes.
    pub bytes: ZipStream,
    /// The instances that cannot be read, under the UIDs of their copies.
    pub missing: Vec<InstanceUid>,
    /// The instances that cannot be de-identified.
    pub survey: CopySurvey,
}

/// An instance that the file may hold.
struct ListedInstance {
    order: (NumberOrder, SeriesUid, NumberOrder),
    instance: InstanceUid,
    is_suitable: bool,
}

impl ListedInstance {
    fn new(record: &InstanceRecord, is_suitable: bool) -> Self {
        let [series, instance] = numbers(&record.attributes);
        let order = (series, record.series.clone(), instance);
        Self { order, instance: record.instance.clone(), is_suitable }
    }

    fn key(&self) -> (NumberOrder, &str, NumberOrder, &str) {
        let (series_number, series, number) = &self.order;
        (*series_number, series.as_str(), *number, self.instance.as_str())
    }
}

/// Makes a zip file of the copies of what `scope` names, or of some positions in a series. The first instance
/// is opened before this returns.
///
/// # Errors
/// [`Error::NotDeidentified`] if no instance can be de-identified; else as [`Archive::zip`].
pub async fn copies_zip(
    archive: &Arc<Archive>,
    caller: &Caller,
    scope: &Scope,
    positions: Option<&RangeInclusive<usize>>,
    limit: usize,
    deidentifier: &Arc<Deidentifier>,
) -> Result<CopiesZip, Error> {
    let mut survey = CopySurvey::default();
    let mut listed = Vec::new();
    let mut pages = archive.instances(caller, scope).await?;
    while let Some(page) = pages.try_next().await? {
        let all: Vec<_> = page.iter().map(|record| ListedInstance::new(record, false)).collect();
        let kept = suitable(deidentifier, page, &mut survey).await?;
        let kept: std::collections::HashSet<&str> =
            kept.iter().map(|record| record.instance.as_str()).collect();
        listed.extend(all.into_iter().map(|instance| {
            let is_suitable = kept.contains(instance.instance.as_str());
            ListedInstance { is_suitable, ..instance }
        }));
        at_most(limit, &listed)?;
    }
    listed.sort_by(|one, other| one.key().cmp(&other.key()));
    if let Some(positions) = positions {
        listed = at_positions(listed, positions)?;
    }
    listed.retain(|instance| instance.is_suitable);
    if let (true, Some(reason)) = (listed.is_empty(), survey.reason) {
        return Err(Error::NotDeidentified(reason.to_owned()));
    }
    let entries = listed.into_iter().map(|listed| entry(archive, caller, &scope.study, listed, deidentifier));
    let note = survey.message().map(|message| (LEFT_OUT, format!("{message}\r\n")));
    let (bytes, missing) = made(archive, caller, entries.collect(), note).await?;
    Ok(CopiesZip { bytes, missing, survey })
}

/// An entry whose copy is made when it is opened.
fn entry(
    archive: &Arc<Archive>,
    caller: &Caller,
    study: &StudyUid,
    listed: ListedInstance,
    deidentifier: &Arc<Deidentifier>,
) -> MadeEntry {
    let ListedInstance { order: (_, series, _), instance, .. } = listed;
    let names =
        (replaced(deidentifier, study), replaced(deidentifier, &series), copy_of(deidentifier, &instance));
    let name = format!("{}/{}/{}.dcm", names.0, names.1, names.2);
    let source =
        Arc::new((archive.clone(), caller.clone(), deidentifier.clone(), (study.clone(), series, instance)));
    let make = move || {
        let source = source.clone();
        async move {
            let (archive, caller, deidentifier, (study, series, instance)) = &*source;
            let record = archive.instance(caller, study, series, instance).await?;
            let form = CopyForm::Encapsulated;
            let file = deidentified_file_in_any_form(archive, caller, &record, deidentifier, form).await?;
            Ok((file.length(), file.read()))
        }
        .boxed()
    };
    MadeEntry { name, instance: names.2, maker: EntryMaker::new(make) }
}
