//! Derived objects: previews, rendered images, thumbnails, cut-outs, transcoded frames and instances. All can
//! be made again.

use crate::archive::access::Caller;
use crate::archive::scope::Scope;
use crate::archive::{Archive, Error};
use crate::blobs::{Key, Staged};
use crate::dicom::explicit;
use crate::pixel;
use crate::pixel::render;

pub mod cache;
mod decoding;
pub mod deidentified;
pub mod deidentified_zip;
pub mod explicit_vr;
pub mod frames;
pub mod metadata_bundle;
mod metadata_encoder;
pub mod metadata_text;
pub mod mini;
pub mod preview;
pub mod references;
pub mod rendering;
pub mod transcode;

/// Puts a derived object of a study, a series or an instance under its key, unless what the object was made
/// from has changed since; whether the object was put. `version` is the result of [`Archive::version`] before
/// the object was made.
///
/// All derived objects are put by this function, under keys that start with tenant and study. A deletion
/// removes rows before it looks for derived objects: the deletion finds this object, or this function finds
/// that the rows are gone.
pub(in crate::archive) async fn put(
    archive: &Archive,
    caller: &Caller,
    scope: &Scope,
    version: &str,
    staged: Staged,
    key: &Key,
) -> Result<bool, Error> {
    archive.blobs.put(staged, key).await?;
    let current = archive.version(caller, scope).await;
    if current.as_ref().is_ok_and(|current| current == version) {
        return Ok(true);
    }
    archive.blobs.delete(key).await?;
    match current {
        Ok(_) | Err(Error::NotFound(_)) => Ok(false),
        Err(error) => Err(error),
    }
}

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
