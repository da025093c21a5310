//! Derived objects: previews, rendered images, thumbnails, transcoded frames and instances. All can be made again.

use crate::archive::Error;
use crate::dicom::explicit;
use crate::pixel;
use crate::pixel::render;

pub(in crate::archive) mod cache;
mod decoding;
pub mod explicit_vr;
pub mod frames;
pub mod preview;
pub mod references;
pub mod rendering;
pub mod transcode;

impl From<pixel::Error> for Error {
    fn from(error: pixel::Error) -> Self {
        let reason = error.to_string();
        match error {
            pixel::Error::Unsupported(_) => Self::Unsupported(reason),
            pixel::Error::Size(shape) if shape.rows > 0 && shape.columns > 0 => Self::TooLarge(reason),
            pixel::Error::Size(_)
            | pixel::Error::Short { .. }
            | pixel::Error::Mismatch { .. }
            | pixel::Error::Codec { .. } => Self::Damaged(reason),
        }
    }
}

impl From<render::Error> for Error {
    fn from(error: render::Error) -> Self {
        let reason = error.to_string();
        match error {
            render::Error::Pixels(error) => error.into(),
            render::Error::Unsupported(_) | render::Error::OutsideOfImage | render::Error::Codec { .. } => {
                Self::Unsupported(reason)
            }
            render::Error::TooLarge { .. } => Self::TooLarge(reason),
        }
    }
}

impl From<explicit::Error> for Error {
    fn from(error: explicit::Error) -> Self {
        let reason = error.to_string();
        match error {
            explicit::Error::NotDecoded => Self::Unsupported(reason),
            explicit::Error::TooLong { .. } => Self::TooLarge(reason),
        }
    }
}
