//! De-identified copies of instances (PS3.15 §E), made while they are sent.
//!
//! [`deidentifier`] is the one entry: it knows the options and the secret of the caller's tenant, and
//! everything that leaves the archive de-identified is made with it.

use std::sync::Arc;

use bytes::Bytes;
use futures_util::TryStreamExt;
use futures_util::stream::BoxStream;

use crate::archive::access::Caller;
use crate::archive::derived::explicit_vr::{ExplicitFile, FileChanges, Source};
use crate::archive::scope::Scope;
use crate::archive::{Archive, Error, run_blocking};
use crate::config::ProfileOption;
use crate::dicom::deidentify::{Deidentifier, PseudonymSecret, Suitability};
use crate::dicom::frames::FrameTable;
use crate::dicom::json;
use crate::dicom::scan::Outline;
use crate::dicom::tags;
use crate::dicom::transfer_syntax;
use crate::dicom::uid::{InstanceUid, Uid};
use crate::index::records::InstanceRecord;

/// The instances of a scope that a response names in a message, at most.
const MAX_NAMED: usize = 10;

/// The representation of a copy.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CopyForm {
    /// Explicit VR Little Endian, frames decoded.
    Explicit,
    /// The stored transfer syntax for videos, which are encapsulated as they are, and otherwise the form of
    /// [`CopyForm::Explicit`]: headers and ends of compressed images can hold anything.
    Encapsulated,
}

/// The UIDs of a copy.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CopyUids {
    /// Study Instance UID.
    pub study: String,
    /// Series Instance UID.
    pub series: String,
    /// SOP Instance UID.
    pub instance: String,
}

/// A de-identified copy that is made while it is read.
pub struct DeidentifiedFile {
    file: ExplicitFile,
    /// The transfer syntax of the copy.
    pub transfer_syntax: String,
}

impl DeidentifiedFile {
    /// Bytes of the file.
    pub fn length(&self) -> u64 {
        self.file.length()
    }

    /// Reads the file. A frame that cannot be decoded ends the stream with an error.
    pub fn read(self) -> BoxStream<'static, Result<Bytes, Error>> {
        self.file.read()
    }
}

/// The instances of a scope, as far as they can be de-identified.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct CopySurvey {
    /// The number of instances that have a copy.
    pub given: usize,
    /// The number of instances that are left out.
    pub left_out: usize,
    /// The UIDs that the first of these would have in copies.
    pub named: Vec<String>,
    /// The reason for the first.
    pub reason: Option<&'static str>,
}

impl CopySurvey {
    /// A message about the instances that are left out; `None` if there are none.
    pub fn message(&self) -> Option<String> {
        let reason = self.reason?;
        let mut names: Vec<&str> = self.named.iter().map(String::as_str).collect();
        if self.left_out > names.len() {
            names.push("and others");
        }
        let names = names.join(", ");
        Some(format!(
            "instances that cannot be de-identified are left out, {} in number ({reason}): {names}",
            self.left_out
        ))
    }
}

/// The profile for copies of a caller's tenant. Options that are `None` are those of the settings. The secret
/// of the tenant is made on its first use.
pub async fn deidentifier(
    archive: &Archive,
    caller: &Caller,
    options: Option<Vec<ProfileOption>>,
) -> Result<Arc<Deidentifier>, Error> {
    let secret = archive.index.pseudonym_secret(caller.tenant.as_str()).await?;
    let settings = &archive.deidentification;
    let options = options.unwrap_or_else(|| settings.options.clone());
    Ok(Arc::new(Deidentifier::new(PseudonymSecret(secret), options, settings)))
}

/// The UIDs of the copy of an instance.
pub fn uids(deidentifier: &Deidentifier, record: &InstanceRecord) -> CopyUids {
    CopyUids {
        study: deidentifier.uid(record.study.as_str()),
        series: deidentifier.uid(record.series.as_str()),
        instance: deidentifier.uid(record.instance.as_str()),
    }
}

/// The UID in the place of another, as a UID.
pub fn replaced<Kind>(deidentifier: &Deidentifier, uid: &Uid<Kind>) -> Uid<Kind> {
    deidentifier.uid(uid.as_str()).parse().unwrap_or_else(|_| uid.clone())
}

/// Whether an instance can be de-identified, by its record.
pub fn suitability(deidentifier: &Deidentifier, record: &InstanceRecord) -> Result<Suitability, Error> {
    let damaged = |_| Error::Damaged("the metadata of an instance cannot be read".into());
    let mut text = Vec::new();
    record.metadata.write_text("", &mut text).map_err(damaged)?;
    let attributes = json::read(&text);
    let attributes =
        attributes.map_err(|_| Error::Damaged("the metadata of an instance cannot be read".into()))?;
    Ok(deidentifier.suitability(&attributes))
}

/// The records of a page whose instances can be de-identified; the others are counted in `survey`.
pub async fn suitable(
    deidentifier: &Arc<Deidentifier>,
    page: Vec<InstanceRecord>,
    survey: &mut CopySurvey,
) -> Result<Vec<InstanceRecord>, Error> {
    let worker = deidentifier.clone();
    // Inflating the metadata takes a while.
    let decide = move || {
        let decided = page.into_iter().map(|record| Ok((suitability(&worker, &record)?, record)));
        decided.collect::<Result<Vec<_>, Error>>()
    };
    let mut kept = Vec::new();
    for (suitability, record) in run_blocking(None, decide).await?? {
        match suitability {
            Suitability::Plain | Suitability::Cleaned(_) => kept.push(record),
            Suitability::Unsuitable(reason) => {
                survey.left_out += 1;
                survey.reason.get_or_insert(reason);
                if survey.named.len() < MAX_NAMED {
                    survey.named.push(deidentifier.uid(record.instance.as_str()));
                }
            }
        }
    }
    survey.given += kept.len();
    Ok(kept)
}

/// Looks at all instances of a scope, before the head of a response.
///
/// # Errors
/// [`Error::NotDeidentified`] if none can be de-identified.
pub async fn survey(
    archive: &Archive,
    caller: &Caller,
    scope: &Scope,
    deidentifier: &Arc<Deidentifier>,
) -> Result<CopySurvey, Error> {
    let mut survey = CopySurvey::default();
    let mut pages = archive.instances(caller, scope).await?;
    while let Some(page) = pages.try_next().await? {
        suitable(deidentifier, page, &mut survey).await?;
    }
    match survey.reason {
        Some(reason) if survey.given == 0 => Err(Error::NotDeidentified(reason.to_owned())),
        _ => Ok(survey),
    }
}

/// Whether [`CopyForm::Encapsulated`] is another form of an instance: it is a video.
pub fn is_kept_encapsulated(record: &InstanceRecord) -> bool {
    matches!(record.layout.frames, FrameTable::Encapsulated { .. })
        && transfer_syntax::is_video(&record.transfer_syntax)
}

/// Whether pixel data have bytes that are of no frame, besides one that makes their number even.
fn has_bytes_beside_frames(outline: &Outline, frames: &FrameTable) -> bool {
    let of_frames = match frames {
        FrameTable::None => 0,
        FrameTable::Native { frame_bits, count, .. } => {
            frame_bits.saturating_mul(u64::from(*count)).div_ceil(8).next_multiple_of(2)
        }
        // They are decoded, one by one.
        FrameTable::Encapsulated { .. } => return false,
    };
    outline.events.iter().any(|event| tags::is_pixel_data(event.tag) && event.length > of_frames)
}

/// Plans the copy of an instance. Reads the object once, to find its elements, and decodes the first frame if
/// frames are decoded. Takes memory by the size of the attributes, never by that of the pixels.
///
/// # Errors
/// [`Error::NotDeidentified`] if the instance cannot be de-identified without a person who looks at it; an
/// error about the form if frames have to be decoded and cannot be.
pub async fn deidentified_file(
    archive: &Arc<Archive>,
    caller: &Caller,
    record: &InstanceRecord,
    deidentifier: &Arc<Deidentifier>,
    form: CopyForm,
) -> Result<DeidentifiedFile, Error> {
    let (archive, caller, record) = (archive.clone(), caller.clone(), Arc::new(record.clone()));
    let source = Source { archive, caller, record };
    let outline = source.outline().await?;
    let worker = deidentifier.clone();
    let copy = run_blocking(None, move || worker.apply(&outline)).await?;
    let copy = copy.map_err(|reason| Error::NotDeidentified(reason.to_owned()))?;
    if has_bytes_beside_frames(&copy.outline, &source.record.layout.frames) {
        return Err(Error::NotDeidentified("there are bytes beside the frames".to_owned()));
    }
    if form == CopyForm::Encapsulated && is_kept_encapsulated(&source.record) && copy.regions.is_empty() {
        let transfer_syntax = copy.outline.transfer_syntax.clone();
        let file = source.encapsulated_of(&copy.outline, copy.changes)?;
        return Ok(DeidentifiedFile { file, transfer_syntax });
    }
    let transfer_syntax = transfer_syntax::EXPLICIT_VR_LITTLE_ENDIAN;
    let changes = FileChanges { elements: copy.changes, regions: copy.regions };
    let file = source.explicit_of(&copy.outline, changes, transfer_syntax).await?;
    Ok(DeidentifiedFile { file, transfer_syntax: transfer_syntax.to_owned() })
}

/// The copy in the form that suits, or in the other one if that is impossible.
pub async fn deidentified_file_in_any_form(
    archive: &Arc<Archive>,
    caller: &Caller,
    record: &InstanceRecord,
    deidentifier: &Arc<Deidentifier>,
    form: CopyForm,
) -> Result<DeidentifiedFile, Error> {
    let file = deidentified_file(archive, caller, record, deidentifier, form).await;
    match file {
        Err(error) if error.is_about_form() && form == CopyForm::Explicit && is_kept_encapsulated(record) => {
            let form = CopyForm::Encapsulated;
            match deidentified_file(archive, caller, record, deidentifier, form).await {
                Ok(file) if file.transfer_syntax != transfer_syntax::EXPLICIT_VR_LITTLE_ENDIAN => Ok(file),
                _ => Err(Error::NotDeidentified(error.to_string())),
            }
        }
        Err(error) if error.is_about_form() => Err(Error::NotDeidentified(error.to_string())),
        outcome => outcome,
    }
}

/// The UID of the copy of an instance, for messages.
pub fn copy_of(deidentifier: &Deidentifier, instance: &InstanceUid) -> InstanceUid {
    replaced(deidentifier, instance)
}
