//! The parameters of requests, besides those in the path and the attributes that searches match.

/// A parameter of a request.
pub(super) struct Parameter {
    /// Its name.
    pub(super) name: &'static str,
    /// Where it stands.
    pub(super) place: Place,
    /// What its value is.
    pub(super) kind: Kind,
    /// Whether a request must have it.
    pub(super) is_required: bool,
    /// What it does, in a line.
    pub(super) about: &'static str,
}

/// Where a parameter stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Place {
    /// In the query.
    Query,
    /// Among the header fields.
    Header,
}

/// What the value of a parameter is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    /// Text.
    Text,
    /// A number from 0.
    Number,
    /// `true` or `false`.
    Boolean,
}

/// What every resource knows that has several forms.
pub(super) const FORM: &[Parameter] = &[
    query(
        "accept",
        Kind::Text,
        "media types to choose from before those of the Accept header field (PS3.18 §8.3.3.1)",
    ),
    query("charset", Kind::Text, "ignored: text is in UTF-8 (PS3.18 §8.3.3.2)"),
];

/// Conditions on what the client has already.
pub(super) const CONDITIONS: &[Parameter] =
    &[header("If-None-Match", "entity tags that the client has (RFC 9110 §13.1.2)")];

/// A part of a body.
pub(super) const RANGE: &[Parameter] = &[
    header("Range", "`bytes=first-last`, from 0 (RFC 9110 §14.2)"),
    header("If-Range", "the entity tag that the range is of (RFC 9110 §13.1.5)"),
];

/// How a search goes about (PS3.18 §8.3.4).
pub(super) const SEARCH: &[Parameter] = &[
    query("limit", Kind::Number, "results at the most"),
    query("offset", Kind::Number, "results to pass over"),
    query("includefield", Kind::Text, "attributes to give besides, by keyword or tag, with commas; or `all`"),
    query("fuzzymatching", Kind::Boolean, "match names by words and sound"),
    query("emptyvaluematching", Kind::Boolean, "let `\"\"` match what has no value"),
    query(
        "multiplevaluematching",
        Kind::Boolean,
        "match only what has all values of a list with backslashes",
    ),
    query(
        "TimezoneOffsetFromUTC",
        Kind::Text,
        "the offset of the dates and times asked for, such as `-0500`",
    ),
    query("orderby", Kind::Text, "attributes to order by, with commas; `-` before one for descending"),
];

/// How pictures are drawn (PS3.18 §8.3.5.1).
pub(super) const DRAWING: &[Parameter] = &[
    query("annotation", Kind::Text, "`patient`, `technique`: what to write into the picture"),
    query("quality", Kind::Number, "of a lossy format, 1 to 100"),
    query(
        "viewport",
        Kind::Text,
        "`width,height[,left,top,width,height]` in pixels: size of the picture, region of the image",
    ),
    query(
        "window",
        Kind::Text,
        "`center,width,function`; the function is `linear`, `linear-exact` or `sigmoid`",
    ),
    query("iccprofile", Kind::Text, "`no`, `yes`, `srgb`, `adobergb` or `rommrgb`"),
];

/// How thumbnails are drawn.
pub(super) const THUMBNAIL: &[Parameter] =
    &[query("viewport", Kind::Text, "`width,height` in pixels, at the most")];

/// What a zip file is to be.
pub(super) const ZIPPED: &[Parameter] = &[query(
    "dicomdir",
    Kind::Text,
    "of `application/zip`: `true` for a file-set with a DICOMDIR (PS3.10 §8)",
)];

/// Which instances of a series are to be in a zip file.
pub(super) const POSITIONS: &[Parameter] = &[query(
    "instances",
    Kind::Text,
    "of `application/zip`: `first-last`, from 1, in the order of Instance Number; all without it",
)];

/// The slices of a fast stream.
pub(super) const SLICES: &[Parameter] =
    &[query("slices", Kind::Text, "`first-last`, from 0; all without it")];

/// The parameters of the URI service (PS3.18 §9.1.2, §9.4, §9.5).
pub(super) const URI: &[Parameter] = &[
    required("requestType", "`WADO`"),
    required("studyUID", "Study Instance UID"),
    required("seriesUID", "Series Instance UID"),
    required("objectUID", "SOP Instance UID"),
    query("contentType", Kind::Text, "media types to choose from before those of the Accept header field"),
    query("charset", Kind::Text, "ignored: text is in UTF-8"),
    query(
        "transferSyntax",
        Kind::Text,
        "of `application/dicom`: the UID of a transfer syntax, or `*` for the stored one",
    ),
    query("frameNumber", Kind::Number, "the frame to draw, from 1"),
    query("annotation", Kind::Text, "`patient`, `technique`: what to write into the picture"),
    query("imageQuality", Kind::Number, "of a lossy format, 1 to 100"),
    query("rows", Kind::Number, "the picture's height at the most, in pixels"),
    query("columns", Kind::Number, "the picture's width at the most, in pixels"),
    query("region", Kind::Text, "`left,top,right,bottom` of the image, from 0.0 to 1.0"),
    query("windowCenter", Kind::Text, "centre of the window"),
    query("windowWidth", Kind::Text, "width of the window"),
    query("presentationUID", Kind::Text, "SOP Instance UID of a presentation state"),
    query("presentationSeriesUID", Kind::Text, "its Series Instance UID"),
];

const fn query(name: &'static str, kind: Kind, about: &'static str) -> Parameter {
    Parameter { name, place: Place::Query, kind, is_required: false, about }
}

const fn header(name: &'static str, about: &'static str) -> Parameter {
    Parameter { name, place: Place::Header, kind: Kind::Text, is_required: false, about }
}

const fn required(name: &'static str, about: &'static str) -> Parameter {
    Parameter { name, place: Place::Query, kind: Kind::Text, is_required: true, about }
}
