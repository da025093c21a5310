//! The query parameters of rendered resources, parsed into the archive's types (PS3.18 §8.3.5.1). WADO-URI
//! shares some of the parsers.

use crate::archive::derived::rendering::{
    Annotation, Format, IccProfile, Rendering, Viewport, VoiFunction, Window,
};
use crate::archive::records::InstanceRecord;
use crate::dicom::uid::{InstanceUid, SeriesUid};
use crate::http::error::Error;
use crate::http::warning::warning;

/// The maximal width and height of a rendered image, in pixels.
pub(crate) const MAX_SIDE: u32 = 16_384;

/// The maximal number of annotation values that a warning repeats.
const MAX_REPEATED: usize = 8;

/// The parameters of a request, without the format of the image.
#[derive(Debug, Clone, Default, PartialEq)]
pub(crate) struct RenderingParameters {
    pub(crate) window: Option<Window>,
    pub(crate) viewport: Option<Viewport>,
    pub(crate) quality: Option<u8>,
    pub(crate) annotation: Annotation,
    pub(crate) icc_profile: IccProfile,
    pub(crate) presentation_state: Option<(SeriesUid, InstanceUid)>,
    /// The value of a Warning field that names unsupported parameters.
    pub(crate) warning: Option<String>,
}

impl RenderingParameters {
    /// Parses the parameters of §8.3.5.1 in a query; of a repeated parameter, the first counts.
    ///
    /// # Errors
    /// [`Error::Parameter`] for the first parameter that is not valid.
    pub(crate) fn read(query: &[(String, String)]) -> Result<Self, Error> {
        let mut parameters = Self::default();
        let value = |name: &str| query.iter().find(|(key, _)| key == name).map(|(_, value)| value.as_str());
        if let Some(text) = value("window") {
            parameters.window = Some(window(text)?);
        }
        if let Some(text) = value("viewport") {
            parameters.viewport = Some(viewport(text)?);
        }
        if let Some(text) = value("quality") {
            parameters.quality = Some(quality("quality", text)?);
        }
        if let Some(text) = value("iccprofile") {
            parameters.icc_profile = icc_profile(text)?;
        }
        if let Some(text) = value("annotation") {
            parameters.annotate("annotation", text)?;
        }
        Ok(parameters)
    }

    /// Refuses an area of more than `max_pixels`, given by parameter `name`.
    ///
    /// # Errors
    /// [`Error::Parameter`].
    pub(crate) fn limit_area(&self, name: &str, max_pixels: u64) -> Result<(), Error> {
        let Some(Viewport { width, height, .. }) = self.viewport else { return Ok(()) };
        if u64::from(width) * u64::from(height) <= max_pixels {
            return Ok(());
        }
        Err(wrong(name, format!("is more than {max_pixels} pixels (rendering.max_viewport_pixels)")))
    }

    /// Refuses a region that lies outside of the image.
    ///
    /// # Errors
    /// [`Error::Parameter`].
    pub(crate) fn check_region(&self, record: &InstanceRecord) -> Result<(), Error> {
        let (Some(viewport), Some(pixels)) = (&self.viewport, &record.layout.pixels) else { return Ok(()) };
        let size = viewport.picture_size([pixels.columns, pixels.rows]);
        size.map(drop).map_err(|_| wrong("viewport", "shows a region outside of the image"))
    }

    /// The rendering for an image of a format.
    ///
    /// # Errors
    /// [`Error::Parameter`] if a colour profile is requested in a format that cannot hold one.
    pub(crate) fn rendering(&self, format: Format) -> Result<Rendering, Error> {
        if format == Format::Gif && self.icc_profile != IccProfile::No {
            return Err(wrong(
                "iccprofile",
                "cannot be other than `no` for image/gif, which holds no profile",
            ));
        }
        Ok(Rendering {
            format,
            window: self.window,
            viewport: self.viewport,
            quality: self.quality,
            annotation: self.annotation,
            icc_profile: self.icc_profile,
            presentation_state: self.presentation_state.clone(),
        })
    }

    /// Parses a list of annotations (§8.3.5.1.1). Unknown keywords lead to a warning.
    ///
    /// # Errors
    /// [`Error::Parameter`] if the list is empty or holds an invalid keyword.
    pub(crate) fn annotate(&mut self, name: &str, list: &str) -> Result<(), Error> {
        let mut unknown = Vec::new();
        let mut keywords = list.split(',').map(str::trim).filter(|keyword| !keyword.is_empty()).peekable();
        if keywords.peek().is_none() {
            return Err(wrong(name, "is empty: it is a list of `patient`, `technique`"));
        }
        for keyword in keywords {
            match keyword.to_ascii_lowercase().as_str() {
                "patient" => self.annotation.patient = true,
                "technique" => self.annotation.technique = true,
                word if is_keyword(word) => unknown.push(shortened(keyword)),
                _ => return Err(wrong(name, format!("holds `{}`, which is no keyword", shortened(keyword)))),
            }
        }
        if !unknown.is_empty() {
            unknown.truncate(MAX_REPEATED);
            let values = unknown.join(",");
            self.warning =
                Some(warning(&format!("The following annotation values are not supported: {values}")));
        }
        Ok(())
    }
}

/// Parses `vw,vh[,[sx],[sy],[sw],[sh]]` (§8.3.5.1.3).
fn viewport(text: &str) -> Result<Viewport, Error> {
    const NAME: &str = "viewport";
    let fields: Vec<&str> = text.split(',').map(str::trim).collect();
    let (&[width, height], region) = fields.split_first_chunk().ok_or_else(|| {
        wrong(NAME, "is not `width,height` or `width,height,left,top,region width,region height`")
    })?;
    if region.len() > 4 {
        return Err(wrong(NAME, format!("has {} values; it has up to 6", fields.len())));
    }
    let coordinate = |index: usize| match region.get(index) {
        None | Some(&"") => Ok(None),
        Some(text) => decimal(NAME, text).map(Some),
    };
    let extent = |index: usize| match coordinate(index)? {
        Some(0.0) => Err(wrong(NAME, "shows a region without pixels")),
        extent => Ok(extent),
    };
    Ok(Viewport {
        width: side(NAME, width)?,
        height: side(NAME, height)?,
        // Only the absolute values of the corner count.
        left_top: [coordinate(0)?.unwrap_or(0.0).abs(), coordinate(1)?.unwrap_or(0.0).abs()],
        size: [extent(2)?, extent(3)?],
    })
}

/// Parses the two values of a thumbnail's viewport (§8.3.5.2).
///
/// # Errors
/// [`Error::Parameter`] if there are not two, or if they are not positive integers.
pub(crate) fn thumbnail_size(text: &str) -> Result<[u32; 2], Error> {
    const NAME: &str = "viewport";
    let Some((width, height)) = text.split_once(',') else {
        return Err(wrong(NAME, "is not `width,height`"));
    };
    Ok([side(NAME, width)?, side(NAME, height)?])
}

/// Parses the width or height of a rendered image, in pixels.
///
/// # Errors
/// [`Error::Parameter`] if the text is not a positive integer, or if the number is too large.
pub(crate) fn side(name: &str, text: &str) -> Result<u32, Error> {
    match text.trim().parse() {
        Ok(side) if (1..=MAX_SIDE).contains(&side) => Ok(side),
        _ => Err(wrong(name, format!("`{}` is not a size from 1 to {MAX_SIDE} pixels", shortened(text)))),
    }
}

/// Parses `center,width,function` (§8.3.5.1.4).
fn window(text: &str) -> Result<Window, Error> {
    const NAME: &str = "window";
    let fields: Vec<&str> = text.split(',').map(str::trim).collect();
    let &[center, width, function] = fields.as_slice() else {
        return Err(wrong(NAME, "is not `center,width,function`"));
    };
    // The standard's attribute has the same words in other spellings.
    let function = match function.to_ascii_lowercase().replace('_', "-").as_str() {
        "linear" => VoiFunction::Linear,
        "linear-exact" => VoiFunction::LinearExact,
        "sigmoid" => VoiFunction::Sigmoid,
        _ => return Err(wrong(NAME, "has a function other than `linear`, `linear-exact` or `sigmoid`")),
    };
    let (center, width) = (decimal(NAME, center)?, decimal(NAME, width)?);
    checked_window(NAME, Window { center, width, function })
}

/// Checks that the function of a window allows its width (PS3.3 §C.11.2.1.2.1, §C.11.2.1.3).
///
/// # Errors
/// [`Error::Parameter`] if the width is not allowed.
pub(crate) fn checked_window(name: &str, window: Window) -> Result<Window, Error> {
    match window.function {
        VoiFunction::Linear if window.width < 1.0 => Err(wrong(name, "has a width below 1")),
        _ if window.width <= 0.0 => Err(wrong(name, "has a width that is not above 0")),
        _ => Ok(window),
    }
}

/// Parses a quality from 1 to 100 (§8.3.5.1.2).
///
/// # Errors
/// [`Error::Parameter`] if the text is not an integer from 1 to 100.
pub(crate) fn quality(name: &str, text: &str) -> Result<u8, Error> {
    match text.trim().parse() {
        Ok(quality @ 1..=100) => Ok(quality),
        _ => Err(wrong(name, "is not an integer from 1 to 100")),
    }
}

/// Parses the name of a colour profile (§8.3.5.1.5).
fn icc_profile(text: &str) -> Result<IccProfile, Error> {
    Ok(match text.trim().to_ascii_lowercase().as_str() {
        "no" => IccProfile::No,
        "yes" => IccProfile::Yes,
        "srgb" => IccProfile::Srgb,
        "adobergb" => IccProfile::AdobeRgb,
        "rommrgb" => IccProfile::RommRgb,
        _ => return Err(wrong("iccprofile", "is not `no`, `yes`, `srgb`, `adobergb` or `rommrgb`")),
    })
}

/// Parses a decimal number.
///
/// # Errors
/// [`Error::Parameter`] if the text is not a number, or if the number is not finite.
pub(crate) fn decimal(name: &str, text: &str) -> Result<f64, Error> {
    match text.trim().parse::<f64>() {
        Ok(number) if number.is_finite() => Ok(number),
        _ => Err(wrong(name, format!("`{}` is not a decimal number", shortened(text)))),
    }
}

/// An error that names the parameter.
pub(crate) fn wrong(name: &str, reason: impl Into<String>) -> Error {
    Error::Parameter { name: name.into(), reason: reason.into() }
}

fn is_keyword(text: &str) -> bool {
    text.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-_".contains(&byte))
}

/// The beginning of a client's text, short enough to be repeated in a message.
fn shortened(text: &str) -> String {
    text.chars().take(40).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(name: &str, value: &str) -> Result<RenderingParameters, Error> {
        RenderingParameters::read(&[(name.to_owned(), value.to_owned())])
    }

    #[test]
    fn windows_are_read() {
        let window = |center, width, function| Window { center, width, function };
        for (text, expected) in [
            ("40,400,linear", window(40.0, 400.0, VoiFunction::Linear)),
            ("-600.5,1e3,linear-exact", window(-600.5, 1000.0, VoiFunction::LinearExact)),
            (" 0 , 0.5 , SIGMOID ", window(0.0, 0.5, VoiFunction::Sigmoid)),
            ("1,1,LINEAR_EXACT", window(1.0, 1.0, VoiFunction::LinearExact)),
        ] {
            assert_eq!(read("window", text).unwrap().window, Some(expected), "{text}");
        }
    }

    #[test]
    fn viewports_are_read_with_values_left_out() {
        let viewport = |left_top, size| Viewport { width: 512, height: 256, left_top, size };
        for (text, expected) in [
            ("512,256", viewport([0.0, 0.0], [None, None])),
            ("512,256,,,100,50.5", viewport([0.0, 0.0], [Some(100.0), Some(50.5)])),
            ("512,256,10,,-100", viewport([10.0, 0.0], [Some(-100.0), None])),
            ("512,256,-10,-20,,-7", viewport([10.0, 20.0], [None, Some(-7.0)])),
            ("512,256,,,,", viewport([0.0, 0.0], [None, None])),
        ] {
            assert_eq!(read("viewport", text).unwrap().viewport, Some(expected), "{text}");
        }
    }

    #[test]
    fn what_cannot_be_used_is_refused_by_name() {
        for (name, values) in [
            (
                "window",
                &["", "40", "40,400", "40,400,", "40,,linear", "a,400,linear", "40,400,cubic", "40,0,sigmoid"]
                    as &[&str],
            ),
            (
                "window",
                &["40,0.5,linear", "40,-1,linear-exact", "nan,1,linear", "inf,1,linear", "1,2,linear,3"],
            ),
            ("viewport", &["", "512", "512,", ",512", "0,512", "-1,512", "1.5,2", "16385,1", "a,b"]),
            ("viewport", &["1,1,0,0,0,1", "1,1,0,0,1,0", "1,1,x", "1,1,0,0,inf", "1,1,0,0,1,1,1"]),
            ("quality", &["", "0", "101", "9.5", "-1", "high", "256"]),
            ("iccprofile", &["", "cmyk", "yes,no"]),
            ("annotation", &["", ",", "patient;technique", "pa tient", "patient,<b>"]),
        ] {
            for value in values {
                match read(name, value) {
                    Err(Error::Parameter { name: named, .. }) => assert_eq!(named, name, "{value}"),
                    other => panic!("{name}={value}: {other:?}"),
                }
            }
        }
    }

    #[test]
    fn unknown_annotations_cost_a_warning() {
        let parameters = read("annotation", "technique,logo,ruler").unwrap();
        assert_eq!(parameters.annotation, Annotation { patient: false, technique: true });
        let warning = "299 cuspid \"The following annotation values are not supported: logo,ruler\"";
        assert_eq!(parameters.warning.as_deref(), Some(warning));
        let parameters = read("annotation", "patient,technique").unwrap();
        assert_eq!(parameters.annotation, Annotation { patient: true, technique: true });
        assert_eq!(parameters.warning, None);
    }

    #[test]
    fn an_area_has_a_limit() {
        let parameters = read("viewport", "100,50").unwrap();
        assert!(parameters.limit_area("viewport", 5000).is_ok());
        assert!(parameters.limit_area("viewport", 4999).is_err());
        assert!(RenderingParameters::default().limit_area("viewport", 0).is_ok());
    }

    #[test]
    fn a_profile_needs_a_format_that_holds_it() {
        for (value, profile) in [("yes", IccProfile::Yes), ("sRGB", IccProfile::Srgb), ("no", IccProfile::No)]
        {
            let parameters = read("iccprofile", value).unwrap();
            assert_eq!(parameters.rendering(Format::Png).unwrap().icc_profile, profile);
            assert_eq!(parameters.rendering(Format::Gif).is_ok(), profile == IccProfile::No, "{value}");
        }
    }

    #[test]
    fn unknown_parameters_are_ignored_and_the_first_of_several_counts() {
        let query = [("Quality", "9"), ("x", ""), ("quality", "8"), ("quality", "7")];
        let query = query.map(|(name, value)| (name.to_owned(), value.to_owned()));
        assert_eq!(
            RenderingParameters::read(&query).unwrap(),
            RenderingParameters { quality: Some(8), ..RenderingParameters::default() }
        );
    }

    #[test]
    fn a_thumbnail_has_a_size_only() {
        assert_eq!(thumbnail_size("256,128").unwrap(), [256, 128]);
        for text in ["", "256", "256,", "0,1", "1,1,0", "1,1,,,"] {
            assert!(thumbnail_size(text).is_err(), "{text}");
        }
    }
}
