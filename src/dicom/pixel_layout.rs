//! The one place that decides what the pixels of an instance are, where attributes, codestream and length
//! contradict each other (PS3.3 §C.7.6.3, PS3.5 §8.2).
//!
//! The codestream describes itself: its characteristics are used to decode it (PS3.5 §8.2.1, §8.2.3, §8.2.4).
//! The attributes describe what the codestream does not. Everything downstream reads the
//! [`PixelLayout`] and no attributes.

use std::borrow::Cow;
use std::ops::RangeInclusive;

use crate::dicom::attributes::{Attribute, Attributes, Tag};
use crate::dicom::codestream::{self, Codestream};
use crate::dicom::failure::Warning;
use crate::dicom::frames::PixelLayout;
use crate::dicom::rle_header;
use crate::dicom::scan::{EventKind, Outline, ScanEvent};
use crate::dicom::tags;
use crate::dicom::transfer_syntax::{self, Compression};

/// The warning about a value that is missing.
const MISSING: &str = "missing or unusable; the usual value is taken";
/// The warning about an attribute that the codestream disproves.
const NOT_AS_CODED: &str = "it is not what the codestream holds";

/// Reads the layout of the pixels, if there are any and they have rows and columns. A missing value gets its
/// most frequent value, and a value that the first frame or the length disproves the proved one, both with a
/// warning.
pub(super) fn read(
    outline: &Outline,
    attributes: &Attributes,
    warnings: &mut Vec<Warning>,
) -> Option<PixelLayout> {
    let pixels = pixel_data(outline)?;
    let mut layout = by_attributes(attributes, pixels.tag == tags::PIXEL_DATA, warnings)?;
    let mut warn = |tag, reason: &str| warnings.push(Warning { tag, reason: reason.to_owned() });
    if pixels.kind == EventKind::Bulk && outline.fragments.is_empty() {
        correct_by_length(&mut layout, pixels.length, &mut warn);
    } else if transfer_syntax::compression(&outline.transfer_syntax) == Some(Compression::Rle) {
        correct_by_segments(&mut layout, &outline.first_frame_head, &mut warn);
    } else if let Some(codestream) = codestream::recognise(&outline.first_frame_head) {
        correct_by_codestream(&mut layout, &codestream, &mut warn);
        for (tag, extent, coded) in [
            (tags::ROWS, &mut layout.rows, codestream.rows),
            (tags::COLUMNS, &mut layout.columns, codestream.columns),
        ] {
            if *extent != coded {
                *extent = coded;
                warn(tag, NOT_AS_CODED);
            }
        }
        let loss = attributes.get(&tags::LOSSY_IMAGE_COMPRESSION).and_then(Attribute::first_text);
        if codestream.is_lossy && loss.is_some_and(|stated| stated != "01") {
            warn(tags::LOSSY_IMAGE_COMPRESSION, NOT_AS_CODED);
        }
    }
    if layout.photometric.is_empty() {
        layout.photometric = if layout.samples == 3 { "RGB" } else { "MONOCHROME2" }.to_owned();
    }
    Some(layout)
}

/// The layout of one compressed frame of an instance, and the description in its codestream, if it has one:
/// the frames of an instance may differ in what their codestreams say of colour and sign.
pub fn of_frame<'a>(layout: &'a PixelLayout, frame: &[u8]) -> (Cow<'a, PixelLayout>, Option<Codestream>) {
    let Some(codestream) = codestream::recognise(frame) else { return (Cow::Borrowed(layout), None) };
    let mut own = layout.clone();
    correct_by_codestream(&mut own, &codestream, &mut |_, _| {});
    (Cow::Owned(own), Some(codestream))
}

/// The attribute that holds the pixels, if it is not empty. That of an icon is nested, and does not count.
fn pixel_data(outline: &Outline) -> Option<&ScanEvent> {
    let mut depth = 0;
    outline.events.iter().find(|event| {
        match event.kind {
            EventKind::Sequence => depth += 1,
            EventKind::SequenceEnd => depth -= 1,
            _ => {}
        }
        depth == 0 && tags::is_pixel_data(event.tag) && event.length > 0
    })
}

/// The layout that the attributes claim; without a Photometric Interpretation if that is missing.
fn by_attributes(
    attributes: &Attributes,
    is_integer: bool,
    warnings: &mut Vec<Warning>,
) -> Option<PixelLayout> {
    let mut warn = |tag, reason: &str| warnings.push(Warning { tag, reason: reason.to_owned() });
    let number = |tag| attributes.get(&tag).and_then(Attribute::first_text)?.parse::<u32>().ok();
    let extent = |tag| number(tag).filter(|&extent| extent > 0);
    let (Some(rows), Some(columns)) = (extent(tags::ROWS), extent(tags::COLUMNS)) else {
        warn(tags::ROWS, "there are pixels without rows and columns; they have no frames");
        return None;
    };
    let mut or = |tag, range: RangeInclusive<u32>, default: u32| {
        let sent = number(tag).filter(|number| range.contains(number));
        if sent.is_none() {
            warn(tag, MISSING);
        }
        sent.unwrap_or(default)
    };
    let samples = or(tags::SAMPLES_PER_PIXEL, 1..=64, 1);
    let bits_allocated = or(tags::BITS_ALLOCATED, 1..=64, 16);
    // Floating point pixels have neither (PS3.3 §C.7.6.24, §C.7.6.25).
    let (bits_stored, high_bit) = if is_integer {
        let bits_stored = or(tags::BITS_STORED, 1..=bits_allocated, bits_allocated);
        (bits_stored, or(tags::HIGH_BIT, 0..=bits_allocated - 1, bits_stored - 1))
    } else {
        (bits_allocated, bits_allocated - 1)
    };
    let number_of_frames =
        match attributes.get(&tags::NUMBER_OF_FRAMES).map(|attribute| attribute.values.is_empty()) {
            None | Some(true) => 1,
            Some(false) => or(tags::NUMBER_OF_FRAMES, 1..=u32::MAX, 1),
        };
    let photometric =
        attributes.get(&tags::PHOTOMETRIC_INTERPRETATION).and_then(Attribute::first_text).unwrap_or_default();
    if photometric.is_empty() {
        warn(tags::PHOTOMETRIC_INTERPRETATION, MISSING);
    }
    Some(PixelLayout {
        rows,
        columns,
        samples: samples as u16,
        bits_allocated: bits_allocated as u16,
        bits_stored: bits_stored as u16,
        high_bit: high_bit as u16,
        is_signed: number(tags::PIXEL_REPRESENTATION) == Some(1),
        photometric: photometric.to_uppercase(),
        is_planar: number(tags::PLANAR_CONFIGURATION) == Some(1),
        number_of_frames,
    })
}

/// Decides by the length of native frames whether their chrominance is subsampled (PS3.3 §C.7.6.3.1.2).
fn correct_by_length(layout: &mut PixelLayout, length: u64, warn: &mut impl FnMut(Tag, &str)) {
    let is_length_of = |photometric: &str| {
        let named = PixelLayout { photometric: photometric.to_owned(), ..layout.clone() };
        let bits = named.native_frame_bits()?.checked_mul(layout.number_of_frames.into())?;
        Some(bits.div_ceil(8).next_multiple_of(2) == length.next_multiple_of(2))
    };
    let other = match layout.photometric.as_str() {
        "YBR_FULL_422" => "YBR_FULL",
        "YBR_FULL" if layout.columns.is_multiple_of(2) => "YBR_FULL_422",
        _ => return,
    };
    if layout.samples == 3
        && is_length_of(&layout.photometric) == Some(false)
        && is_length_of(other) == Some(true)
    {
        layout.photometric = other.to_owned();
        warn(tags::PHOTOMETRIC_INTERPRETATION, "the length of the pixels is that of another one");
    }
}

/// Corrects Bits Allocated and Samples per Pixel by the number of segments of the first RLE frame, which is
/// their product in bytes (PS3.5 §G.2).
fn correct_by_segments(layout: &mut PixelLayout, head: &[u8], warn: &mut impl FnMut(Tag, &str)) {
    let bytes = layout.bits_allocated.div_ceil(8);
    let Some(segments) = rle_header::segments(head).filter(|&count| count != bytes * layout.samples) else {
        return;
    };
    if segments.is_multiple_of(layout.samples)
        && matches!(segments / layout.samples, 1 | 2 | 4)
        && layout.bits_stored <= 8 * (segments / layout.samples)
    {
        layout.bits_allocated = 8 * (segments / layout.samples);
        layout.high_bit = layout.bits_stored - 1;
        warn(tags::BITS_ALLOCATED, NOT_AS_CODED);
    } else if matches!(segments / bytes, 1 | 3) && segments.is_multiple_of(bytes) {
        layout.samples = segments / bytes;
        warn(tags::SAMPLES_PER_PIXEL, NOT_AS_CODED);
        let usual = if layout.samples == 3 { "RGB" } else { "MONOCHROME2" };
        if !fits(&layout.photometric, layout.samples) {
            layout.photometric = usual.to_owned();
        }
    }
}

/// Replaces the claims that a codestream disproves.
fn correct_by_codestream(
    layout: &mut PixelLayout,
    codestream: &Codestream,
    warn: &mut impl FnMut(Tag, &str),
) {
    if codestream.samples != layout.samples {
        layout.samples = codestream.samples;
        warn(tags::SAMPLES_PER_PIXEL, NOT_AS_CODED);
    }
    if codestream.bits_stored > layout.bits_allocated {
        // A codestream of more bits than Bits Stored is usual, and in most of them the samples have no more
        // than Bits Stored. That shows only when they are decoded.
        layout.bits_allocated = codestream.bits_allocated();
        layout.bits_stored = codestream.bits_stored;
        layout.high_bit = codestream.bits_stored - 1;
        warn(tags::BITS_ALLOCATED, NOT_AS_CODED);
    }
    if codestream.is_signed && !layout.is_signed {
        // Only JPEG 2000 states a sign, and many encoders leave it out: its absence proves nothing.
        layout.is_signed = true;
        warn(tags::PIXEL_REPRESENTATION, NOT_AS_CODED);
    }
    if let Some(photometric) = coded_photometric(&layout.photometric, codestream) {
        if !layout.photometric.is_empty() {
            warn(tags::PHOTOMETRIC_INTERPRETATION, NOT_AS_CODED);
        }
        layout.photometric = photometric.to_owned();
    }
}

/// The Photometric Interpretation of a codestream, if it cannot be the claimed one.
fn coded_photometric(claim: &str, codestream: &Codestream) -> Option<&'static str> {
    let coded = codestream.photometric;
    let is_possible = match ColourSpace::of(claim) {
        _ if claim.is_empty() => false,
        // Of a name that is not of the standard nothing is known.
        None => true,
        Some(space) if codestream.is_photometric_proved => Some(space) == ColourSpace::of(coded),
        Some(ColourSpace::Grey) => codestream.samples == 1,
        Some(ColourSpace::Rgb | ColourSpace::Ybr) => codestream.samples == 3,
        // These are the names of a component transform, which the codestream would state.
        Some(ColourSpace::Reversible | ColourSpace::Irreversible) => false,
    };
    (!is_possible).then_some(coded)
}

/// Whether a Photometric Interpretation can be one of this number of samples.
fn fits(photometric: &str, samples: u16) -> bool {
    ColourSpace::of(photometric).is_none_or(|space| (space == ColourSpace::Grey) == (samples == 1))
}

/// The meaning of components.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum ColourSpace {
    /// Grey, or numbers of entries of a palette.
    Grey,
    /// Red, green and blue.
    Rgb,
    /// Luminance and chrominance, whether subsampled or not.
    Ybr,
    /// Red, green and blue under the reversible component transform.
    Reversible,
    /// Red, green and blue under the irreversible component transform.
    Irreversible,
}

impl ColourSpace {
    fn of(photometric: &str) -> Option<Self> {
        Some(match photometric {
            "MONOCHROME1" | "MONOCHROME2" | "PALETTE COLOR" => Self::Grey,
            "RGB" => Self::Rgb,
            "YBR_FULL" | "YBR_FULL_422" | "YBR_PARTIAL_422" | "YBR_PARTIAL_420" => Self::Ybr,
            "YBR_RCT" => Self::Reversible,
            "YBR_ICT" => Self::Irreversible,
            _ => return None,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The claims of attributes: samples, bits allocated and stored, sign, Photometric Interpretation.
    fn claimed(
        samples: u16,
        [allocated, stored]: [u16; 2],
        is_signed: bool,
        photometric: &str,
    ) -> PixelLayout {
        PixelLayout {
            rows: 4,
            columns: 6,
            samples,
            bits_allocated: allocated,
            bits_stored: stored,
            high_bit: stored - 1,
            is_signed,
            photometric: photometric.to_owned(),
            is_planar: false,
            number_of_frames: 1,
        }
    }

    fn coded(samples: u16, bits_stored: u16, is_signed: bool, photometric: &'static str) -> Codestream {
        Codestream {
            transfer_syntax: transfer_syntax::JPEG2000,
            is_lossy: true,
            rows: 4,
            columns: 6,
            samples,
            bits_stored,
            is_signed,
            photometric,
            is_photometric_proved: false,
            offset: 0,
        }
    }

    /// The corrected layout, and the tags of the warnings.
    fn corrected(
        mut layout: PixelLayout,
        correct: impl Fn(&mut PixelLayout, &mut dyn FnMut(Tag, &str)),
    ) -> (PixelLayout, Vec<Tag>) {
        let mut warned = Vec::new();
        correct(&mut layout, &mut |tag, _| warned.push(tag));
        (layout, warned)
    }

    fn by_codestream(layout: PixelLayout, codestream: &Codestream) -> (PixelLayout, Vec<Tag>) {
        corrected(layout, |layout, mut warn| correct_by_codestream(layout, codestream, &mut warn))
    }

    /// The names of the standard, one that is not, and none.
    const CLAIMS: [&str; 10] = [
        "MONOCHROME1",
        "MONOCHROME2",
        "PALETTE COLOR",
        "RGB",
        "YBR_FULL",
        "YBR_FULL_422",
        "YBR_RCT",
        "YBR_ICT",
        "HSV",
        "",
    ];

    /// Codestreams: Photometric Interpretation, whether it is proved, and the names that the claims become;
    /// "=" for a claim that stays.
    const CODESTREAMS: [(&str, bool, [&str; 10]); 5] = [
        ("RGB", true, ["RGB", "RGB", "RGB", "=", "RGB", "RGB", "RGB", "RGB", "=", "RGB"]),
        ("YBR_FULL", true, [YBR, YBR, YBR, YBR, "=", "=", YBR, YBR, "=", YBR]),
        ("YBR_RCT", true, [RCT, RCT, RCT, RCT, RCT, RCT, "=", RCT, "=", RCT]),
        ("RGB", false, ["RGB", "RGB", "RGB", "=", "=", "=", "RGB", "RGB", "=", "RGB"]),
        ("YBR_FULL", false, [YBR, YBR, YBR, "=", "=", "=", YBR, YBR, "=", YBR]),
    ];
    const YBR: &str = "YBR_FULL";
    const RCT: &str = "YBR_RCT";

    #[test]
    fn colour_is_as_the_codestream_proves_it_or_else_as_claimed_if_it_can_be() {
        for (photometric, is_photometric_proved, expected) in CODESTREAMS {
            let stream = Codestream { is_photometric_proved, ..coded(3, 8, false, photometric) };
            for (claim, expected) in CLAIMS.into_iter().zip(expected) {
                let (layout, warned) = by_codestream(claimed(3, [8, 8], false, claim), &stream);
                let name = if expected == "=" { claim } else { expected };
                assert_eq!(layout.photometric, name, "{claim} {stream:?}");
                let is_warned = name != claim && !claim.is_empty();
                let expected = if is_warned { vec![tags::PHOTOMETRIC_INTERPRETATION] } else { vec![] };
                assert_eq!(warned, expected, "{claim} {stream:?}");
            }
        }
        for claim in ["MONOCHROME1", "MONOCHROME2", "PALETTE COLOR"] {
            let (layout, warned) =
                by_codestream(claimed(1, [8, 8], false, claim), &coded(1, 8, false, "MONOCHROME2"));
            assert_eq!((layout.photometric.as_str(), warned), (claim, vec![]));
        }
    }

    #[test]
    fn samples_bits_and_sign_are_those_of_the_codestream() {
        use tags::{BITS_ALLOCATED, PHOTOMETRIC_INTERPRETATION, PIXEL_REPRESENTATION, SAMPLES_PER_PIXEL};
        let grey = |bits, is_signed| claimed(1, bits, is_signed, "MONOCHROME2");
        for (claim, codestream, expected, warned) in [
            (grey([16, 12], false), coded(1, 12, false, "MONOCHROME2"), grey([16, 12], false), vec![]),
            // More bits than Bits Stored, or fewer, hold the same samples.
            (grey([16, 12], true), coded(1, 16, false, "MONOCHROME2"), grey([16, 12], true), vec![]),
            (grey([16, 16], true), coded(1, 12, false, "MONOCHROME2"), grey([16, 16], true), vec![]),
            (
                grey([8, 8], false),
                coded(1, 12, false, "MONOCHROME2"),
                grey([16, 12], false),
                vec![BITS_ALLOCATED],
            ),
            (
                grey([16, 16], false),
                coded(1, 24, false, "MONOCHROME2"),
                grey([32, 24], false),
                vec![BITS_ALLOCATED],
            ),
            (
                grey([16, 12], false),
                coded(1, 12, true, "MONOCHROME2"),
                grey([16, 12], true),
                vec![PIXEL_REPRESENTATION],
            ),
            (
                grey([8, 8], false),
                coded(3, 8, false, "YBR_FULL"),
                claimed(3, [8, 8], false, "YBR_FULL"),
                vec![SAMPLES_PER_PIXEL, PHOTOMETRIC_INTERPRETATION],
            ),
            (
                claimed(3, [8, 8], false, "RGB"),
                coded(1, 8, false, "MONOCHROME2"),
                grey([8, 8], false),
                vec![SAMPLES_PER_PIXEL, PHOTOMETRIC_INTERPRETATION],
            ),
        ] {
            let (layout, found) = by_codestream(claim.clone(), &codestream);
            assert_eq!((&layout, found), (&expected, warned), "{claim:?}");
            assert_eq!(by_codestream(layout.clone(), &codestream), (layout, vec![]), "a second time");
        }
    }

    #[test]
    fn the_length_proves_whether_chrominance_is_subsampled() {
        for (photometric, columns, frames, length, expected) in [
            ("YBR_FULL_422", 6, 1, 48, "YBR_FULL_422"),
            ("YBR_FULL_422", 6, 1, 72, "YBR_FULL"),
            ("YBR_FULL_422", 6, 2, 144, "YBR_FULL"),
            ("YBR_FULL_422", 5, 1, 60, "YBR_FULL"),
            ("YBR_FULL", 6, 1, 48, "YBR_FULL_422"),
            ("YBR_FULL", 6, 2, 96, "YBR_FULL_422"),
            // Too short or too long for both, and a name that has no subsampled form.
            ("YBR_FULL_422", 6, 2, 96 + 24, "YBR_FULL_422"),
            ("YBR_FULL", 6, 1, 40, "YBR_FULL"),
            ("RGB", 6, 1, 48, "RGB"),
        ] {
            let claim =
                PixelLayout { columns, number_of_frames: frames, ..claimed(3, [8, 8], false, photometric) };
            let (layout, warned) =
                corrected(claim, |layout, mut warn| correct_by_length(layout, length, &mut warn));
            assert_eq!(layout.photometric, expected, "{photometric} {columns} {length}");
            assert_eq!(warned.len(), usize::from(photometric != expected), "{photometric} {length}");
        }
    }

    #[test]
    fn the_segments_of_rle_prove_bits_allocated_and_samples() {
        for (claim, segments, expected, warned) in [
            (claimed(1, [16, 12], false, "MONOCHROME2"), 2, claimed(1, [16, 12], false, "MONOCHROME2"), 0),
            (claimed(1, [16, 8], false, "MONOCHROME2"), 1, claimed(1, [8, 8], false, "MONOCHROME2"), 1),
            (claimed(1, [8, 8], true, "MONOCHROME2"), 2, claimed(1, [16, 8], true, "MONOCHROME2"), 1),
            (claimed(1, [8, 8], false, "MONOCHROME2"), 3, claimed(3, [8, 8], false, "RGB"), 1),
            (claimed(3, [8, 8], false, "YBR_FULL"), 1, claimed(1, [8, 8], false, "MONOCHROME2"), 1),
            // Twelve bits do not fit into one segment.
            (claimed(1, [16, 12], false, "MONOCHROME2"), 1, claimed(1, [16, 12], false, "MONOCHROME2"), 0),
        ] {
            let mut head = vec![0; 64];
            head[0] = segments;
            for segment in 0..usize::from(segments) {
                head[4 + 4 * segment] = 64 + segment as u8;
            }
            let (layout, found) =
                corrected(claim.clone(), |layout, mut warn| correct_by_segments(layout, &head, &mut warn));
            assert_eq!((layout, found.len()), (expected, warned), "{claim:?} {segments}");
        }
    }
}
