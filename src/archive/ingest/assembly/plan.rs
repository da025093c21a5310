//! The plan of an assembled instance: bytes of its own, and ranges of the spool (PS3.10 §7.1, PS3.5 §A.4).

use std::collections::HashSet;

use serde_json::{Value as Json, json as object};

use crate::archive::ingest::Refusal;
use crate::archive::ingest::assembly::pixels::{self, Pixels};
use crate::archive::ingest::assembly::{
    AssemblyPiece, BulkPart, MetadataFormat, Parts, UnassembledInstance, uri,
};
use crate::dicom::attributes::{Tag, Vr};
use crate::dicom::failure::{Failure, Warning};
use crate::dicom::json;
use crate::dicom::tags;
use crate::dicom::transfer_syntax;
use crate::dicom::uid::InstanceUid;
use crate::dicom::write::{self, DataSetSegment};
use crate::dicom::xml;

/// The padding of UIDs, which some senders leave in JSON.
const PADDING: [char; 2] = ['\0', ' '];

/// The attributes that identify an instance: all are UIDs.
const IDENTITY: [Tag; 4] =
    [tags::SOP_CLASS_UID, tags::SOP_INSTANCE_UID, tags::STUDY_INSTANCE_UID, tags::SERIES_INSTANCE_UID];

/// The plan of an instance.
pub(super) struct AssemblyPlan {
    /// Its bytes in order.
    pub(super) pieces: Vec<AssemblyPiece>,
    /// Faults that do not prevent storing the instance.
    pub(super) warnings: Vec<Warning>,
    /// SOP class and SOP instance.
    pub(super) reference: (String, String),
    /// The absolute locations of its bulk data.
    pub(super) used: HashSet<String>,
}

/// The nesting of metadata for which [`plan`] needs a stack.
///
/// # Errors
/// [`Failure::TooDeep`] if sequences are nested deeper than `max_sequence_depth`; for XML, [`plan`] finds
/// out.
pub(super) fn nesting(
    form: MetadataFormat,
    text: &[u8],
    max_sequence_depth: usize,
) -> Result<usize, UnassembledInstance> {
    let limit = json::nesting_of_sequences(max_sequence_depth);
    match form {
        MetadataFormat::Json => match json::nesting(text) {
            nesting if nesting > limit => {
                Err(Refusal::from(Failure::TooDeep { limit: max_sequence_depth }).into())
            }
            nesting => Ok(nesting),
        },
        MetadataFormat::Xml => {
            let items = memchr::memmem::find_iter(text, b"Item").count();
            Ok(json::nesting_of_sequences(items).min(limit))
        }
    }
}

/// Plans the instance that this metadata describes, on a thread with a stack for its [`nesting`]. Of XML, at
/// most `max_elements` elements are read; those of JSON were counted before. Reads the beginnings of
/// compressed frames; blocks.
pub(super) fn plan(
    form: MetadataFormat,
    text: &[u8],
    parts: &Parts,
    max_sequence_depth: usize,
    max_elements: usize,
) -> Result<AssemblyPlan, UnassembledInstance> {
    let mut data_set = match form {
        MetadataFormat::Json => json::parse_nested(text).map_err(|error| match error {
            json::Error::Syntax(error) => not_metadata(format!("not valid JSON: {error}")),
            error => not_metadata(error.to_string()),
        })?,
        MetadataFormat::Xml => {
            xml::read(text, max_sequence_depth, max_elements).map_err(|error| match error {
                xml::Error::TooDeep(limit) => Refusal::from(Failure::TooDeep { limit }).into(),
                error => not_metadata(error.to_string()),
            })?
        }
    };
    let uid = |tag: Tag| text_of(&data_set, tag).trim_matches(PADDING).to_owned();
    let reference = (uid(IDENTITY[0]), uid(IDENTITY[1]));
    let known = [&reference.0, &reference.1].iter().all(|text| text.parse::<InstanceUid>().is_ok());
    let planned = plan_data_set(&mut data_set, parts, &reference);
    planned.map_err(|refusal| UnassembledInstance { reference: known.then_some(reference), refusal })
}

/// The first value of an attribute, if it is text.
fn text_of(data_set: &Json, tag: Tag) -> &str {
    data_set[tag.to_string()]["Value"][0].as_str().unwrap_or_default()
}

fn not_metadata(reason: String) -> UnassembledInstance {
    Refusal::Metadata(reason).into()
}

fn plan_data_set(
    data_set: &mut Json,
    parts: &Parts,
    reference: &(String, String),
) -> Result<AssemblyPlan, Refusal> {
    let mut planner = Planner { parts, faults: Vec::new(), warnings: Vec::new(), used: HashSet::new() };
    planner.check_identity(data_set);
    let pixels = match planner.parts_of(&data_set[tags::PIXEL_DATA.to_string()]) {
        Some(found) => Some(pixels::read(found, &parts.spooled)?),
        None => None,
    };
    if let Some(pixels) = &pixels {
        planner.describe_pixels(data_set, pixels);
    }
    planner.describe_document(data_set);
    let written = match write::write(data_set) {
        Ok(written) => written,
        Err(faults) => {
            planner.faults.extend(faults);
            return Err(Refusal::Attributes(planner.faults));
        }
    };
    planner.warnings.extend(written.warnings);
    let transfer_syntax =
        pixels.as_ref().map_or(transfer_syntax::EXPLICIT_VR_LITTLE_ENDIAN, Pixels::transfer_syntax);
    let mut pieces =
        vec![AssemblyPiece::Bytes(write::file_head(&reference.0, &reference.1, transfer_syntax))];
    for segment in written.segments {
        match segment {
            DataSetSegment::Bytes(bytes) => pieces.push(AssemblyPiece::Bytes(bytes)),
            DataSetSegment::Bulk { tag, vr, uri, is_top_level, .. } => {
                let is_pixels = tag == tags::PIXEL_DATA && is_top_level;
                match pixels.as_ref().filter(|_| is_pixels).and_then(Pixels::element) {
                    Some(element) => {
                        planner.use_of(&uri);
                        pieces.extend(element);
                    }
                    None => planner.value(tag, vr, &uri, &mut pieces),
                }
            }
        }
    }
    if !planner.faults.is_empty() {
        return Err(Refusal::Attributes(planner.faults));
    }
    Ok(AssemblyPlan { pieces, warnings: planner.warnings, reference: reference.clone(), used: planner.used })
}

struct Planner<'a> {
    parts: &'a Parts,
    faults: Vec<Warning>,
    warnings: Vec<Warning>,
    used: HashSet<String>,
}

impl<'a> Planner<'a> {
    fn check_identity(&mut self, data_set: &Json) {
        for tag in IDENTITY {
            let text = text_of(data_set, tag).trim_matches(PADDING);
            if text.is_empty() {
                self.fault(tag, "is missing or empty");
            } else if text.parse::<InstanceUid>().is_err() {
                self.fault(tag, "is not a UID");
            }
        }
    }

    /// The parts that an attribute refers to.
    fn parts_of(&self, attribute: &Json) -> Option<&'a [BulkPart]> {
        let location = uri::resolve(&self.parts.base, attribute["BulkDataURI"].as_str()?);
        self.parts.bulk.get(&location).map(Vec::as_slice)
    }

    /// Adds to the data set what is missing of the Image Pixel Description Macro and can be told from the
    /// pixels (PS3.18 §10.5.2). What is there is left as it is.
    fn describe_pixels(&mut self, data_set: &mut Json, pixels: &Pixels) {
        let Json::Object(members) = data_set else { return };
        // They tell the places of frames in the object that the metadata was taken from.
        members.retain(|tag, _| !["7FE00001", "7FE00002"].contains(&tag.to_ascii_uppercase().as_str()));
        for (tag, attribute) in pixels.described() {
            let tag_text = tag.to_string();
            let is_missing = members.get(&tag_text).is_none_or(|sent| sent["Value"][0].is_null());
            let is_other = || {
                let sent = &members[&tag_text]["Value"][0];
                write::number(&attribute["Value"][0]) != write::number(sent)
            };
            if !is_missing && (pixels.are_made() || pixels::must_agree(tag)) && is_other() {
                self.warn(tag, "is not what the compressed pixels say");
            }
            if is_missing || pixels.are_made() {
                members.insert(tag_text, attribute);
            }
        }
        let frames = members.get("00280008").map(|attribute| write::number(&attribute["Value"][0]));
        if let Some(expected) = pixels.number_of_frames() {
            match frames.flatten() {
                Some(frames) if frames != expected => {
                    let reason = format!("says {frames} frames, of which {expected} came");
                    self.fault(tags::NUMBER_OF_FRAMES, &reason);
                }
                None if expected > 1 => {
                    members.insert("00280008".into(), object!({"vr": "IS", "Value": [expected]}));
                }
                _ => {}
            }
        }
        if pixels.has_other_syntax() {
            self.warn(tags::PIXEL_DATA, "is not in the transfer syntax that its Content-Type names");
        }
    }

    /// Adds the length of an encapsulated document if padding would hide the length (PS3.3 §C.24.2).
    fn describe_document(&self, data_set: &mut Json) {
        let parts = self.parts_of(&data_set[tags::ENCAPSULATED_DOCUMENT.to_string()]).unwrap_or_default();
        if let ([part], Json::Object(members)) = (parts, data_set) {
            let length = part.range.end - part.range.start;
            if length % 2 == 1 {
                members.entry("00420015").or_insert_with(|| object!({"vr": "UL", "Value": [length]}));
            }
        }
    }

    /// Adds an element whose value is one part as it was sent.
    fn value(&mut self, tag: Tag, vr: Vr, uri: &str, pieces: &mut Vec<AssemblyPiece>) {
        let range = match self.use_of(uri) {
            [] => return self.fault(tag, "has a BulkDataURI that is the Content-Location of no part"),
            [part] => part.range.clone(),
            _ => {
                return self
                    .fault(tag, "has a BulkDataURI that is the Content-Location of more than one part");
            }
        };
        let length = range.end - range.start;
        let Some(header) = write::element_header(tag, vr, length) else {
            return self.fault(tag, "has a value of 4 GiB or more, which only compressed pixels can have");
        };
        pieces.push(AssemblyPiece::Bytes(header));
        pieces.push(AssemblyPiece::Spooled(range));
        if !length.is_multiple_of(2) {
            pieces.push(AssemblyPiece::Bytes(vec![write::padding(vr)]));
        }
    }

    fn use_of(&mut self, uri: &str) -> &'a [BulkPart] {
        let location = uri::resolve(&self.parts.base, uri);
        let parts = self.parts.bulk.get(&location).map(Vec::as_slice).unwrap_or_default();
        // Only what came: metadata can name any number of others.
        if !parts.is_empty() {
            self.used.insert(location);
        }
        parts
    }

    fn fault(&mut self, tag: Tag, reason: &str) {
        self.faults.push(Warning { tag, reason: reason.to_owned() });
    }

    fn warn(&mut self, tag: Tag, reason: &str) {
        self.warnings.push(Warning { tag, reason: reason.to_owned() });
    }
}
