//! Presentation states: stored choices of the display of an image, with graphics over the image (PS3.3 §A.33,
//! §C.10.4 to §C.10.6, §C.11.8; PS3.4 Annex N; PS3.18 §8.3.5.1.6).

use serde::Deserialize;
use serde_json::Value;

use crate::archive::Error;
use crate::archive::derived::rendering::display_attributes::{ImageModules, Table, has_negative_values};
use crate::archive::derived::rendering::graphics::{Annotated, Placement};
use crate::archive::derived::rendering::image_reference::{References, Subject, is_for};
use crate::dicom::frames::PixelLayout;
use crate::dicom::json_values::{JsonSequence, JsonValues};
use crate::dicom::uids;
use crate::index::records::InstanceRecord;
use crate::pixel::render;
use crate::pixel::render::lines::MAX_DOTS;
use crate::pixel::render::viewport::Viewport;
use crate::pixel::render::window::Voi;
use crate::pixel::render::{Canvas, Display, ModalityTransform, viewport};

/// The SOP classes that are applied: grayscale and colour softcopy presentation states.
const APPLIED: [&str; 2] =
    [uids::GRAYSCALE_SOFTCOPY_PRESENTATION_STATE_STORAGE, uids::COLOR_SOFTCOPY_PRESENTATION_STATE_STORAGE];

/// The attributes that are read from a presentation state.
#[derive(Debug, Default, Deserialize)]
pub(super) struct Presentation {
    #[serde(skip)]
    plain: ImageModules,
    #[serde(rename = "00283110", default)]
    softcopy_voi_luts: JsonSequence<Value>,
    #[serde(rename = "20500010", default)]
    presentation_luts: JsonSequence<Table>,
    #[serde(rename = "20500020", default)]
    presentation_shape: JsonValues,
    #[serde(rename = "00700041", default)]
    horizontal_flip: JsonValues,
    #[serde(rename = "00700042", default)]
    rotation: JsonValues,
    #[serde(rename = "0070005A", default)]
    areas: JsonSequence<Area>,
    #[serde(rename = "00700001", default)]
    annotations: JsonSequence<Annotated>,
}

/// An item of the Softcopy VOI LUT Sequence, besides the VOI LUT.
#[derive(Debug, Default, Deserialize)]
struct Softcopy {
    #[serde(rename = "00081140", default)]
    images: References,
}

/// An item of the Displayed Area Selection Sequence.
#[derive(Debug, Default, Deserialize)]
struct Area {
    #[serde(rename = "00081140", default)]
    images: References,
    #[serde(rename = "00700052", default)]
    top_left: JsonValues,
    #[serde(rename = "00700053", default)]
    bottom_right: JsonValues,
    #[serde(rename = "00700100", default)]
    size_mode: JsonValues,
    #[serde(rename = "00700103", default)]
    magnification: JsonValues,
}

impl Presentation {
    /// Reads a presentation state.
    ///
    /// # Errors
    /// [`Error::Unsupported`] if the SOP class of the presentation state is not one of those that are
    /// applied.
    pub(super) fn read(record: &InstanceRecord) -> Result<Self, Error> {
        if !APPLIED.contains(&record.sop_class.as_str()) {
            let reason = format!("a presentation state of SOP class {} cannot be applied", record.sop_class);
            return Err(Error::Unsupported(reason));
        }
        let mut text = Vec::new();
        let read = record.metadata.write_text("", &mut text);
        Ok(read.map(|()| Self::parse(&text)).unwrap_or_default())
    }

    fn parse(text: &[u8]) -> Self {
        let state: Self = serde_json::from_slice(text).unwrap_or_default();
        Self { plain: serde_json::from_slice(text).unwrap_or_default(), ..state }
    }

    /// Replaces the image's own transformations of values by those of the presentation state.
    pub(super) fn adjust(&self, display: &mut Display, layout: &PixelLayout, subject: Subject<'_>) {
        // Without one of its own, a presentation state has the identity, whatever the image has (PS3.4 §N.2).
        let identity = ModalityTransform::Linear { slope: 1.0, intercept: 0.0 };
        display.modality = self.plain.modality(layout).unwrap_or(identity);
        let is_signed = has_negative_values(&display.modality, layout);
        let items = self.softcopy_voi_luts.items.iter();
        let mut items =
            items.filter(|item| Softcopy::deserialize(*item).is_ok_and(|item| is_for(&item.images, subject)));
        let voi = items.find_map(|item| ImageModules::deserialize(item).ok()?.voi(is_signed));
        display.voi = voi.unwrap_or(Voi::Full);
        display.presentation = self.presentation_luts.items.first().and_then(|item| item.read(false));
        display.is_inverted = self.presentation_shape.text() == Some("INVERSE");
    }

    /// The size of an image as the presentation state shows it without a viewport, in pixels from left to
    /// right and from top to bottom.
    pub(super) fn size(&self, image: [u32; 2], subject: Subject<'_>) -> [u32; 2] {
        let mut size = self.displayed(image, subject).1;
        if self.quarters() % 2 == 1 {
            size.reverse();
        }
        size
    }

    /// Left, top, width and height of the displayed area, and the size at which it is shown, before it is
    /// rotated.
    fn displayed(&self, image: [u32; 2], subject: Subject<'_>) -> ([f64; 4], [u32; 2]) {
        let area = self.areas.items.iter().find(|area| is_for(&area.images, subject));
        let region = area.and_then(Area::region).unwrap_or([0.0, 0.0, image[0].into(), image[1].into()]);
        let shown = area.map_or(1.0, Area::magnification);
        let size = [region[2], region[3]].map(|side| (side * shown).round().clamp(1.0, 65_535.0) as u32);
        (region, size)
    }

    /// The quarters of a turn, clockwise, from 0 to 3.
    fn quarters(&self) -> u32 {
        (self.rotation.number().unwrap_or(0.0) / 90.0).round().rem_euclid(4.0) as u32
    }

    /// Arranges the image in a viewport. Its region is one of the image as the presentation state shows it
    /// (PS3.18 §9.5.2.4), in pixels of [`Presentation::size`].
    pub(super) fn arrange(
        &self,
        canvas: Canvas,
        viewport: Option<&Viewport>,
        max_pixels: u64,
        subject: Subject<'_>,
    ) -> Result<Canvas, render::Error> {
        match viewport.filter(|viewport| viewport.has_region()) {
            Some(viewport) => {
                viewport::apply(self.arrange_whole(canvas, None, max_pixels, subject)?, viewport)
            }
            None => self.arrange_whole(canvas, viewport, max_pixels, subject),
        }
    }

    /// Cuts out the displayed area, fits the area into `viewport`, rotates and flips it, and renders the
    /// graphics.
    fn arrange_whole(
        &self,
        canvas: Canvas,
        viewport: Option<&Viewport>,
        max_pixels: u64,
        subject: Subject<'_>,
    ) -> Result<Canvas, render::Error> {
        let image = [canvas.width, canvas.height];
        let (quarters, is_flipped) = (self.quarters(), self.horizontal_flip.text() == Some("Y"));
        let (region, shown) = self.displayed(image, subject);
        let mut fit = viewport.map_or(shown, |viewport| [viewport.width, viewport.height]);
        if viewport.is_some() && quarters % 2 == 1 {
            fit.reverse();
        }
        if u64::from(fit[0]) * u64::from(fit[1]) > max_pixels.max(canvas.pixels.len() as u64) {
            return Err(render::Error::Unsupported(
                "a magnified area beyond rendering.max_viewport_pixels".into(),
            ));
        }
        let [left, top, width, height] = region;
        let cut = Viewport {
            left_top: [left, top],
            size: [Some(width), Some(height)],
            ..Viewport::area(fit[0], fit[1])
        };
        let mut canvas = viewport::apply(canvas, &cut)?;
        let region = cut.region(image)?;
        let placement = Placement { region, size: [canvas.width, canvas.height], quarters, is_flipped };
        for _ in 0..quarters {
            canvas.turn_clockwise();
        }
        if is_flipped {
            canvas.flip_horizontally();
        }
        let mut room = MAX_DOTS;
        let annotations = self.annotations.items.iter();
        for annotation in annotations.filter(|annotation| is_for(&annotation.images, subject)) {
            annotation.draw(&mut canvas, &placement, &mut room);
        }
        Ok(canvas)
    }
}

impl Area {
    /// Left, top, width and height of the displayed area. Its corners are pixels, counted from 1, of the
    /// image before the rotation: they may be other corners than the upper left and lower right ones.
    fn region(&self) -> Option<[f64; 4]> {
        let ([x1, y1], [x2, y2]) = (self.top_left.numbers()?, self.bottom_right.numbers()?);
        let (left, top) = (x1.min(x2) - 1.0, y1.min(y2) - 1.0);
        // The area is clipped where it lies outside the image.
        let (right, bottom) = (x1.max(x2), y1.max(y2));
        let (left, top) = (left.max(0.0), top.max(0.0));
        (right > left && bottom > top).then_some([left, top, right - left, bottom - top])
    }

    /// The magnification of the mode `MAGNIFY`: pixels of the rendered image for each pixel of the image,
    /// along one side.
    fn magnification(&self) -> f64 {
        match self.size_mode.text() {
            Some("MAGNIFY") => self.magnification.number().filter(|&ratio| ratio > 0.0).unwrap_or(1.0),
            _ => 1.0,
        }
    }
}
