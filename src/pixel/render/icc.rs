//! Colour profiles of rendered images (PS3.18 §8.3.5.1.5; ISO 15076-1).

use moxcms::{ColorProfile, DataColorSpace, Layout, TransformOptions};

use crate::pixel::render::{Canvas, Error};

/// The colour profile of a rendered image (PS3.18 §8.3.5.1.5).
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum IccProfile {
    /// None.
    #[default]
    No,
    /// That of the image, or else sRGB.
    Yes,
    /// sRGB, with the pixels transformed.
    Srgb,
    /// Adobe RGB, with the pixels transformed.
    AdobeRgb,
    /// ROMM RGB, with the pixels transformed.
    RommRgb,
}

/// Converts a rendered image to the requested colours; returns it with the profile to embed. `own` is the ICC
/// profile of the image, if it has one: without one, its colours are sRGB. Grey becomes colour, as
/// these profiles are of colours.
///
/// # Errors
/// [`Error::Unsupported`] if the image's own profile is needed and cannot be used.
pub fn apply(
    canvas: Canvas,
    asked: IccProfile,
    own: Option<&[u8]>,
) -> Result<(Canvas, Option<Vec<u8>>), Error> {
    let target = match asked {
        IccProfile::No => return Ok((canvas, None)),
        IccProfile::Yes => match own {
            Some(own) => return Ok((canvas.into_rgb(), Some(own.to_vec()))),
            None => ColorProfile::new_srgb(),
        },
        IccProfile::Srgb => ColorProfile::new_srgb(),
        IccProfile::AdobeRgb => ColorProfile::new_adobe_rgb(),
        IccProfile::RommRgb => ColorProfile::new_pro_photo_rgb(),
    };
    let mut canvas = canvas.into_rgb();
    let source = match own {
        Some(own) => read(own)?,
        None => ColorProfile::new_srgb(),
    };
    if own.is_some() || matches!(asked, IccProfile::AdobeRgb | IccProfile::RommRgb) {
        let options = TransformOptions::default();
        let transform = source.create_transform_8bit(Layout::Rgb, &target, Layout::Rgb, options);
        let mut pixels = vec![0; canvas.pixels.len()];
        let outcome = transform.and_then(|transform| transform.transform(&canvas.pixels, &mut pixels));
        outcome.map_err(|error| Error::Unsupported(format!("the ICC profile ({error})")))?;
        canvas.pixels = pixels;
    }
    let profile = target.encode().map_err(|error| Error::Unsupported(format!("an ICC profile ({error})")))?;
    Ok((canvas, Some(profile)))
}

fn read(own: &[u8]) -> Result<ColorProfile, Error> {
    let profile = ColorProfile::new_from_slice(own);
    let profile =
        profile.map_err(|error| Error::Unsupported(format!("the image's ICC profile ({error})")))?;
    if profile.color_space != DataColorSpace::Rgb {
        return Err(Error::Unsupported("an ICC profile of other colours than RGB".into()));
    }
    Ok(profile)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn colours(pixels: &[u8]) -> Canvas {
        Canvas { width: pixels.len() as u32 / 3, height: 1, pixels: pixels.to_vec() }
    }

    #[test]
    fn colours_are_transformed_where_a_space_is_asked_for() {
        let picture = colours(&[255, 0, 0, 0, 0, 0, 255, 255, 255, 128, 128, 128]);
        for (asked, red) in [
            (IccProfile::No, [255, 0, 0]),
            (IccProfile::Yes, [255, 0, 0]),
            (IccProfile::Srgb, [255, 0, 0]),
            // Pure red of sRGB in these spaces, by their published matrices and curves.
            (IccProfile::AdobeRgb, [219, 0, 0]),
            (IccProfile::RommRgb, [179, 70, 26]),
        ] {
            let (shown, profile) = apply(picture.clone(), asked, None).unwrap();
            let found = &shown.pixels[..3];
            let is_near = found.iter().zip(red).all(|(found, red)| found.abs_diff(red) <= 1);
            assert!(is_near, "{asked:?}: {found:?}");
            assert_eq!(shown.pixels[3..9], [0, 0, 0, 255, 255, 255], "{asked:?}");
            assert_eq!(profile.is_some(), asked != IccProfile::No);
        }
    }

    #[test]
    fn the_images_own_profile_is_kept_or_left() {
        let own = ColorProfile::new_adobe_rgb().encode().unwrap();
        let picture = colours(&[219, 0, 0]);
        let (shown, profile) = apply(picture.clone(), IccProfile::Yes, Some(&own)).unwrap();
        assert_eq!((shown, profile.as_deref()), (picture.clone(), Some(&own[..])));
        let (shown, _) = apply(picture, IccProfile::Srgb, Some(&own)).unwrap();
        assert!(shown.pixels[0] >= 254 && shown.pixels[1] <= 1, "{:?}", shown.pixels);
    }

    #[test]
    fn a_profile_that_is_none_is_refused() {
        let error = apply(colours(&[0; 3]), IccProfile::Srgb, Some(b"no profile")).unwrap_err();
        assert!(error.to_string().contains("ICC"), "{error}");
    }
}
