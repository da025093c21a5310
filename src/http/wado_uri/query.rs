//! The query parameters of WADO-URI (PS3.18 §9.1.2, §9.4.1.2, §9.5.1.2).
//!
//! Names are case-sensitive. Clients repeat parameters and send empty ones: the first one with a value
//! counts.

use std::str::FromStr;

use axum::http::header::ACCEPT;
use axum::http::{HeaderMap, HeaderValue};

use crate::archive::derived::rendering::{Viewport, VoiFunction, Window};
use crate::archive::records::InstanceRecord;
use crate::dicom::uid::{InstanceUid, InvalidUid, SeriesUid};
use crate::http::error::Error;
use crate::http::request::accept::Accept;
use crate::http::request::rendering_parameters::{
    MAX_SIDE, RenderingParameters, checked_window, decimal, quality, side, wrong,
};
use crate::http::retrieve::rendered_images;
use crate::http::wado_uri::DICOM;

/// The maximal number of transfer syntaxes that a request may list; the standard defines fewer.
const MAX_TRANSFER_SYNTAXES: usize = 100;

/// The query parameters, decoded.
pub(super) struct UriQuery(pub(super) Vec<(String, String)>);

impl UriQuery {
    /// The first value of a parameter that is not empty.
    pub(super) fn value(&self, name: &str) -> Option<&str> {
        let mut values = self.0.iter().filter(|(key, _)| key == name).map(|(_, value)| value.trim());
        values.find(|value| !value.is_empty())
    }

    pub(super) fn required(&self, name: &str) -> Result<&str, Error> {
        self.value(name).ok_or_else(|| wrong(name, "is missing"))
    }

    pub(super) fn required_uid<U: FromStr>(&self, name: &str) -> Result<U, Error>
    where
        U::Err: ToString,
    {
        self.required(name)?.parse().map_err(|error: U::Err| wrong(name, error.to_string()))
    }

    /// Refuses a window, which is for rendered images alone.
    pub(super) fn refuse_window(&self) -> Result<(), Error> {
        match ["windowCenter", "windowWidth"].into_iter().find(|name| self.value(name).is_some()) {
            Some(name) => Err(wrong(name, format!("cannot be given together with {DICOM}"))),
            None => Ok(()),
        }
    }

    /// The requested media types (§9.1.2.2.1): DICOM, or rendered ones.
    pub(super) fn content_type(&self) -> Result<Option<String>, Error> {
        const NAME: &str = "contentType";
        let values = self.0.iter().filter(|(key, _)| key == NAME).map(|(_, value)| value.trim());
        let list = values.filter(|value| !value.is_empty()).collect::<Vec<_>>().join(",");
        let lower = list.to_ascii_lowercase();
        if lower.contains("transfer-syntax") || lower.contains("charset") {
            return Err(wrong(NAME, "cannot have parameters; there are transferSyntax and charset"));
        }
        let is_dicom =
            |media_type: &str| media_type.split(';').next().is_some_and(|name| name.trim() == DICOM);
        let (dicom, others): (Vec<&str>, Vec<&str>) = lower.split(',').partition(|name| is_dicom(name));
        if !dicom.is_empty() && !others.is_empty() {
            return Err(wrong(NAME, format!("is either {DICOM} or a list of rendered media types")));
        }
        Ok((!list.is_empty()).then_some(list))
    }

    /// The accepted transfer syntaxes of an instance: `*`, or a list in the client's order (§9.4.2.4,
    /// §8.7.3.6).
    pub(super) fn transfer_syntax(&self) -> Result<Accept, Error> {
        const NAME: &str = "transferSyntax";
        let listed = self.value(NAME).unwrap_or_default().split(',').map(str::trim);
        let media_type = |text: &str| match text {
            "*" => Ok(format!("{DICOM}; transfer-syntax=*")),
            text => {
                let uid: InstanceUid =
                    text.parse().map_err(|error: InvalidUid| wrong(NAME, error.to_string()))?;
                Ok(format!("{DICOM}; transfer-syntax={uid}"))
            }
        };
        let mut media_types =
            listed.filter(|text| !text.is_empty()).map(media_type).collect::<Result<Vec<_>, Error>>()?;
        if media_types.len() > MAX_TRANSFER_SYNTAXES {
            return Err(wrong(NAME, format!("lists more than {MAX_TRANSFER_SYNTAXES} UIDs")));
        }
        if media_types.is_empty() {
            media_types.push(DICOM.to_owned());
        }
        let header = HeaderValue::try_from(media_types.join(", ")).map_err(|_| wrong(NAME, "is no UID"))?;
        Ok(Accept::of(&HeaderMap::from_iter([(ACCEPT, header)]), None))
    }

    /// The rendering parameters, without the viewport.
    pub(super) fn parameters(&self) -> Result<RenderingParameters, Error> {
        let mut parameters = RenderingParameters { window: self.window()?, ..RenderingParameters::default() };
        if let Some(text) = self.value("imageQuality") {
            parameters.quality = Some(quality("imageQuality", text)?);
        }
        // The standard has both names (Tables 9.4.1-1 and 9.5.1-1).
        for name in ["annotation", "imageAnnotation"] {
            if let Some(list) = self.value(name) {
                parameters.annotate(name, list)?;
            }
        }
        Ok(parameters)
    }

    /// The window (§9.5.1.2.6), whose function cannot be named.
    fn window(&self) -> Result<Option<Window>, Error> {
        let Some([center, width]) = self.both(["windowCenter", "windowWidth"])? else { return Ok(None) };
        let (center, width) = (decimal("windowCenter", center)?, decimal("windowWidth", width)?);
        checked_window("windowWidth", Window { center, width, function: VoiFunction::Linear }).map(Some)
    }

    /// The requested frame, from 1 (§9.5.2.1).
    pub(super) fn frame_number(&self, record: &InstanceRecord) -> Result<Option<u32>, Error> {
        const NAME: &str = "frameNumber";
        let Some(text) = self.value(NAME) else { return Ok(None) };
        let count = rendered_images::number_of_frames(record);
        match text.parse() {
            Ok(number) if (1..=count).contains(&number) => Ok(Some(number)),
            _ => Err(wrong(NAME, format!("is not a frame number from 1 to {count}"))),
        }
    }

    /// The presentation state to apply (§9.5.1.2.7).
    pub(super) fn presentation_state(&self) -> Result<Option<(SeriesUid, InstanceUid)>, Error> {
        const NAMES: [&str; 2] = ["presentationSeriesUID", "presentationUID"];
        if self.both(NAMES)?.is_none() {
            return Ok(None);
        }
        Ok(Some((self.required_uid(NAMES[0])?, self.required_uid(NAMES[1])?)))
    }

    /// Refuses parameters that a presentation state decides (§8.3.5.1.6, §9.5.1.2.7).
    pub(super) fn refuse_with_presentation_state(&self, state: &str) -> Result<(), Error> {
        for name in ["windowCenter", "windowWidth", "frameNumber"] {
            if self.value(name).is_some() {
                return Err(wrong(name, format!("cannot be given where {state} is a presentation state")));
            }
        }
        Ok(())
    }

    /// Whether the query names a size or a region.
    pub(super) fn has_area(&self) -> bool {
        ["rows", "columns", "region"].iter().any(|name| self.value(name).is_some())
    }

    /// The size of the rendered image and the region of an image of these columns and rows (§9.5.2.4,
    /// §9.5.2.5). If only one of `rows` and `columns` is given, the shape of the region decides on the other;
    /// without both, the region keeps its size.
    pub(super) fn viewport(&self, image: [u32; 2]) -> Result<Option<Viewport>, Error> {
        let size = |name| self.value(name).map(|text| side(name, text)).transpose();
        let (rows, columns, region) = (size("rows")?, size("columns")?, self.region()?);
        if rows.is_none() && columns.is_none() && region.is_none() {
            return Ok(None);
        }
        let image = image.map(f64::from);
        let [left, top, right, bottom] = region.unwrap_or([0.0, 0.0, 1.0, 1.0]);
        let (region_width, region_height) = ((right - left) * image[0], (bottom - top) * image[1]);
        let whole = |pixels: f64| (pixels.round() as u32).clamp(1, MAX_SIDE);
        let (width, height) = match (columns, rows) {
            (Some(columns), Some(rows)) => (columns, rows),
            (Some(columns), None) => (columns, whole(f64::from(columns) * region_height / region_width)),
            (None, Some(rows)) => (whole(f64::from(rows) * region_width / region_height), rows),
            (None, None) => (whole(region_width), whole(region_height)),
        };
        let size = region.map_or([None; 2], |_| [Some(region_width), Some(region_height)]);
        Ok(Some(Viewport { width, height, left_top: [left * image[0], top * image[1]], size }))
    }

    /// `region=xmin,ymin,xmax,ymax`, each from 0 to 1 (§9.5.1.2.5).
    fn region(&self) -> Result<Option<[f64; 4]>, Error> {
        const NAME: &str = "region";
        let Some(text) = self.value(NAME) else { return Ok(None) };
        let numbers = text.split(',').map(|text| decimal(NAME, text)).collect::<Result<Vec<_>, _>>()?;
        match numbers.as_slice() {
            &[left, top, right, bottom]
                if 0.0 <= left
                    && left < right
                    && right <= 1.0
                    && 0.0 <= top
                    && top < bottom
                    && bottom <= 1.0 =>
            {
                Ok(Some([left, top, right, bottom]))
            }
            _ => Err(wrong(NAME, "is not `xmin,ymin,xmax,ymax` with 0 <= min < max <= 1")),
        }
    }

    /// The values of two parameters that must be given together.
    fn both(&self, names: [&str; 2]) -> Result<Option<[&str; 2]>, Error> {
        match names.map(|name| self.value(name)) {
            [Some(first), Some(second)] => Ok(Some([first, second])),
            [None, None] => Ok(None),
            [first, _] => {
                let (missing, given) =
                    if first.is_none() { (names[0], names[1]) } else { (names[1], names[0]) };
                Err(wrong(missing, format!("is missing: it goes together with {given}")))
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn query(pairs: &[(&str, &str)]) -> UriQuery {
        UriQuery(pairs.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect())
    }

    /// The parameter that an error names.
    fn named<T: std::fmt::Debug>(outcome: Result<T, Error>) -> String {
        match outcome {
            Err(Error::Parameter { name, .. }) => name,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn the_first_value_that_is_not_empty_counts() {
        let query = query(&[("a", ""), ("A", "0"), ("a", " 1 "), ("a", "2"), ("b", "")]);
        assert_eq!(query.value("a"), Some("1"));
        assert_eq!(query.value("b"), None);
        assert_eq!(named(query.required("b")), "b");
        assert_eq!(named(query.required_uid::<InstanceUid>("A").and_then(|_| query.required("c"))), "c");
    }

    #[test]
    fn media_types_are_either_dicom_or_rendered() {
        for (value, expected) in [
            ("", None),
            ("application/dicom", Some("application/dicom")),
            ("image/jpeg", Some("image/jpeg")),
            ("image/png;q=0.5,image/jpeg", Some("image/png;q=0.5,image/jpeg")),
        ] {
            assert_eq!(
                query(&[("contentType", value)]).content_type().unwrap().as_deref(),
                expected,
                "{value}"
            );
        }
        for value in [
            "application/dicom,image/jpeg",
            "image/jpeg, Application/DICOM;q=0.1",
            "application/dicom;transfer-syntax=1.2.840.10008.1.2.1",
            "text/html;charset=utf-8",
        ] {
            assert_eq!(named(query(&[("contentType", value)]).content_type()), "contentType", "{value}");
        }
        let repeated = query(&[("contentType", "application/dicom"), ("contentType", "image/png")]);
        assert_eq!(named(repeated.content_type()), "contentType");
    }

    #[test]
    fn what_is_wrong_with_a_picture_is_named() {
        for (name, pairs) in [
            ("windowWidth", &[("windowCenter", "40")] as &[_]),
            ("windowCenter", &[("windowWidth", "400"), ("windowCenter", "")]),
            ("windowCenter", &[("windowWidth", "400"), ("windowCenter", "x")]),
            ("windowWidth", &[("windowWidth", "0"), ("windowCenter", "1")]),
            ("imageQuality", &[("imageQuality", "0")]),
            ("annotation", &[("annotation", "<script>")]),
            ("imageAnnotation", &[("imageAnnotation", "a b")]),
        ] {
            assert_eq!(named(query(pairs).parameters()), name, "{pairs:?}");
        }
        let parameters = query(&[("windowCenter", "-600.5"), ("windowWidth", "1500"), ("imageQuality", "7")]);
        let window = Window { center: -600.5, width: 1500.0, function: VoiFunction::Linear };
        let expected =
            RenderingParameters { window: Some(window), quality: Some(7), ..RenderingParameters::default() };
        assert_eq!(parameters.parameters().unwrap(), expected);
    }

    #[test]
    fn regions_lie_within_the_image() {
        for text in [
            "0,0,1",
            "0,0,1,1,1",
            "0,0,1.1,1",
            "-0.1,0,1,1",
            "0.5,0,0.5,1",
            "0,0.6,1,0.5",
            "0,0,nan,1",
            "0,0,,1",
            "a",
        ] {
            assert_eq!(named(query(&[("region", text)]).region()), "region", "{text}");
        }
        assert_eq!(query(&[("region", "0.25,0,0.75,1")]).region().unwrap(), Some([0.25, 0.0, 0.75, 1.0]));
    }

    #[test]
    fn an_area_that_is_given_in_part_keeps_the_shape_of_the_region() {
        let viewport = |width, height, left_top, size| Viewport { width, height, left_top, size };
        let (corner, all) = ([0.0, 0.0], [None, None]);
        for (pairs, expected) in [
            (&[] as &[_], None),
            (&[("rows", "100"), ("columns", "30")], Some(viewport(30, 100, corner, all))),
            (&[("rows", "100")], Some(viewport(200, 100, corner, all))),
            (&[("columns", "100")], Some(viewport(100, 50, corner, all))),
            (&[("rows", "1"), ("columns", "")], Some(viewport(2, 1, corner, all))),
            (&[("region", "0.5,0,1,1")], Some(viewport(200, 200, [200.0, 0.0], [Some(200.0), Some(200.0)]))),
            (
                &[("region", "0,0.5,1,1"), ("rows", "10")],
                Some(viewport(40, 10, [0.0, 100.0], [Some(400.0), Some(100.0)])),
            ),
        ] {
            assert_eq!(query(pairs).viewport([400, 200]).unwrap(), expected, "{pairs:?}");
        }
        for (name, text) in [("rows", "0"), ("columns", "-5"), ("rows", "1.5"), ("columns", "100000")] {
            assert_eq!(named(query(&[(name, text)]).viewport([4, 4])), name, "{text}");
        }
    }

    #[test]
    fn a_presentation_state_has_two_uids() {
        let (series, state) = (("presentationSeriesUID", "1.2"), ("presentationUID", "1.3"));
        assert_eq!(named(query(&[series]).presentation_state()), "presentationUID");
        assert_eq!(named(query(&[state]).presentation_state()), "presentationSeriesUID");
        assert_eq!(named(query(&[series, ("presentationUID", "x")]).presentation_state()), "presentationUID");
        let expected = ("1.2".parse().unwrap(), "1.3".parse().unwrap());
        assert_eq!(query(&[series, state]).presentation_state().unwrap(), Some(expected));
        for name in ["windowCenter", "windowWidth", "frameNumber"] {
            assert_eq!(named(query(&[(name, "1")]).refuse_with_presentation_state("objectUID")), name);
        }
    }
}
