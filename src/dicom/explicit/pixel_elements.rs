//! The elements that describe frames, as they are true of the frames that are written (PS3.3 §C.7.6.3).

use crate::dicom::attributes::{Tag, Vr};
use crate::dicom::codestream;
use crate::dicom::explicit::writer::number;
use crate::dicom::explicit::{EncodedElement, top_level};
use crate::dicom::frames::PixelLayout;
use crate::dicom::scan::Outline;
use crate::dicom::tags;

/// The elements for frames of this layout that replace those of an object, in the order of their tags.
pub fn pixel_elements(outline: &Outline, layout: &PixelLayout) -> Vec<EncodedElement> {
    let us = |tag, number: u16| EncodedElement { tag, vr: Vr(*b"US"), value: number.to_le_bytes().to_vec() };
    let has_frames = layout.number_of_frames != 1 || text(outline, tags::NUMBER_OF_FRAMES).is_some();
    // A size that has no room in US has none in any other attribute.
    let extent = |tag, extent: u32| {
        let extent = u16::try_from(extent).ok().filter(|&extent| number(outline, tag) != Some(extent))?;
        Some(us(tag, extent))
    };
    let planar_configuration = us(tags::PLANAR_CONFIGURATION, layout.is_planar.into());
    let elements = [
        Some(us(tags::SAMPLES_PER_PIXEL, layout.samples)),
        Some(photometric(layout)),
        (layout.samples > 1).then_some(planar_configuration),
        has_frames.then(|| number_of_frames(layout)),
        extent(tags::ROWS, layout.rows),
        extent(tags::COLUMNS, layout.columns),
        Some(us(tags::BITS_ALLOCATED, layout.bits_allocated)),
        Some(us(tags::BITS_STORED, layout.bits_stored)),
        Some(us(tags::HIGH_BIT, layout.high_bit)),
        Some(us(tags::PIXEL_REPRESENTATION, layout.is_signed.into())),
    ];
    elements.into_iter().flatten().collect()
}

/// Lossy Image Compression (0028,2110) of an object whose first frame is a lossy codestream, unless the
/// object states the loss already: an image that was compressed with loss says so in every later form
/// (PS3.3 §C.7.6.1.1.5).
pub fn loss_of_codestream(outline: &Outline) -> Option<EncodedElement> {
    let is_lossy = codestream::recognise(&outline.first_frame_head).is_some_and(|found| found.is_lossy);
    let is_stated = text(outline, tags::LOSSY_IMAGE_COMPRESSION) == Some("01");
    (is_lossy && !is_stated).then(|| EncodedElement {
        tag: tags::LOSSY_IMAGE_COMPRESSION,
        vr: Vr(*b"CS"),
        value: b"01".to_vec(),
    })
}

/// The elements in which native frames that are written as they are stored differ from what the object says
/// of them, in the order of their tags.
pub fn pixel_corrections(outline: &Outline, layout: &PixelLayout) -> Vec<EncodedElement> {
    let stored = text(outline, tags::PHOTOMETRIC_INTERPRETATION);
    let has_other_name = stored.is_some_and(|name| name.to_uppercase() != layout.photometric);
    let stored = text(outline, tags::NUMBER_OF_FRAMES).and_then(|number| number.parse::<u32>().ok());
    let has_other_number = layout.number_of_frames > 0 && stored.unwrap_or(1) != layout.number_of_frames;
    let photometric = has_other_name.then(|| photometric(layout));
    photometric.into_iter().chain(has_other_number.then(|| number_of_frames(layout))).collect()
}

fn photometric(layout: &PixelLayout) -> EncodedElement {
    let value = layout.photometric.clone().into_bytes();
    EncodedElement { tag: tags::PHOTOMETRIC_INTERPRETATION, vr: Vr(*b"CS"), value }
}

fn number_of_frames(layout: &PixelLayout) -> EncodedElement {
    let value = layout.number_of_frames.to_string().into_bytes();
    EncodedElement { tag: tags::NUMBER_OF_FRAMES, vr: Vr(*b"IS"), value }
}

/// The stored text of an attribute without its padding.
fn text(outline: &Outline, tag: Tag) -> Option<&str> {
    let (_, value) = top_level(outline, tag)?;
    Some(std::str::from_utf8(value).ok()?.trim_matches(['\0', ' '])).filter(|text| !text.is_empty())
}
