//! The media types of requests and responses, the default first.

const DICOM_JSON: &str = "application/dicom+json";
const XML_PARTS: &str = "multipart/related; type=\"application/dicom+xml\"";
const DICOM_PARTS: &str = "multipart/related; type=\"application/dicom\"";
const JPEG_PARTS: &str = "multipart/related; type=\"image/jpeg\"";
const PNG_PARTS: &str = "multipart/related; type=\"image/png\"";
const GIF_PARTS: &str = "multipart/related; type=\"image/gif\"";
const OCTET_PARTS: &str = "multipart/related; type=\"application/octet-stream\"";
const OCTETS: &str = "application/octet-stream";

/// The Capabilities Description.
pub(super) const CAPABILITIES: &[&str] = &["application/vnd.sun.wadl+xml", "application/json"];
/// Search results.
pub(super) const FOUND: &[&str] = &[DICOM_JSON, "application/json", XML_PARTS, "text/csv"];
/// Metadata.
pub(super) const DESCRIBED: &[&str] = &[DICOM_JSON, "application/json", XML_PARTS];
/// The instances of a study or series.
pub(super) const WHOLE: &[&str] = &[DICOM_PARTS, OCTET_PARTS, "application/zip"];
/// An instance.
pub(super) const WHOLE_INSTANCE: &[&str] =
    &[DICOM_PARTS, OCTET_PARTS, "application/dicom", "application/zip"];
/// The instances of a cut-out.
pub(super) const CUT_OUT: &[&str] = &[DICOM_PARTS, "application/zip"];
/// A thumbnail.
pub(super) const THUMBNAILS: &[&str] = &["image/jpeg", "image/png", "image/gif"];
/// Rendered images of frames.
pub(super) const IMAGES: &[&str] =
    &["image/jpeg", "image/png", "image/gif", JPEG_PARTS, PNG_PARTS, GIF_PARTS];
/// Rendered images of a study or series.
pub(super) const PARTS_OF_IMAGES: &[&str] = &[JPEG_PARTS, PNG_PARTS, GIF_PARTS];
/// A rendered instance.
#[rustfmt::skip]
pub(super) const RENDERED: &[&str] = &[
    "image/jpeg", "image/png", "image/gif", JPEG_PARTS, PNG_PARTS, GIF_PARTS,
    "text/html", "text/plain", "text/xml", "application/pdf", "model/stl", "model/obj", "model/mtl",
    "video/mpeg", "video/mp4", "video/H265",
];
/// The result of the URI service.
#[rustfmt::skip]
pub(super) const URI_RESULTS: &[&str] = &[
    "image/jpeg", "image/png", "image/gif", "application/dicom",
    "text/html", "text/plain", "text/xml", "application/pdf", "model/stl", "model/obj", "model/mtl",
    "video/mpeg", "video/mp4", "video/H265",
];
/// Frames.
#[rustfmt::skip]
pub(super) const FRAMES: &[&str] = &[
    OCTET_PARTS, OCTETS, JPEG_PARTS, "image/jpeg",
    "multipart/related; type=\"image/jls\"", "image/jls",
    "multipart/related; type=\"image/jp2\"", "image/jp2",
    "multipart/related; type=\"image/jphc\"", "image/jphc",
    "multipart/related; type=\"image/dicom-rle\"", "image/dicom-rle",
];
/// All bulk data of a study, series or instance.
#[rustfmt::skip]
pub(super) const PARTS_OF_BYTES: &[&str] = &[
    OCTET_PARTS, JPEG_PARTS,
    "multipart/related; type=\"image/jls\"", "multipart/related; type=\"image/jp2\"",
    "multipart/related; type=\"image/jphc\"", "multipart/related; type=\"image/dicom-rle\"",
];
/// A bulk value.
pub(super) const BULK_DATA: &[&str] = &[OCTET_PARTS, OCTETS];
/// The result of storing.
pub(super) const STORED: &[&str] = &[DICOM_JSON, "application/dicom+xml"];

/// Media types of requests to store.
#[rustfmt::skip]
pub(super) const STORABLE: &[&str] = &[
    DICOM_PARTS, "multipart/related; type=\"application/dicom+json\"", XML_PARTS, "application/dicom", "application/zip",
];
