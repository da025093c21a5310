//! Derived objects: previews, rendered images, thumbnails, transcoded frames and instances. All can be made again.

pub(in crate::archive) mod cache;
pub mod explicit_vr;
pub mod frames;
pub mod preview;
pub mod references;
pub mod rendering;
pub mod transcode;
