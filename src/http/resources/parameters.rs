//! The parameters of requests, besides those in the path and the attributes that searches match.

/// A parameter of a request.
pub(in crate::http) struct Parameter {
    /// The name.
    pub(in crate::http) name: &'static str,
    /// The part of the request that holds it.
    pub(in crate::http) location: ParameterLocation,
    /// The type of the value.
    pub(in crate::http) kind: ParameterType,
    /// Whether it is required.
    pub(in crate::http) is_required: bool,
    /// The effect or meaning, in a line.
    pub(in crate::http) about: &'static str,
}

/// The part of a request that holds a parameter.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::http) enum ParameterLocation {
    /// The query.
    Query,
    /// The header fields.
    Header,
}

/// The type of a parameter's value.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::http) enum ParameterType {
    /// Text.
    Text,
    /// A number from 0.
    Number,
    /// `true` or `false`.
    Boolean,
}

/// Parameters of every resource that has several representations.
pub(in crate::http) const FORM: &[Parameter] = &[
    query(
        "accept",
        ParameterType::Text,
        "media types to choose from before those of the Accept header field (PS3.18 §8.3.3.1)",
    ),
    query("charset", ParameterType::Text, "ignored: text is in UTF-8 (PS3.18 §8.3.3.2)"),
];

/// Conditions on the representation that the client has already.
pub(in crate::http) const CONDITIONS: &[Parameter] =
    &[header("If-None-Match", "entity tags that the client has (RFC 9110 §13.1.2)")];

/// A part of a body.
pub(in crate::http) const RANGE: &[Parameter] = &[
    header("Range", "`bytes=first-last`, from 0 (RFC 9110 §14.2)"),
    header("If-Range", "the entity tag that the range is of (RFC 9110 §13.1.5)"),
];

/// Parameters of a search (PS3.18 §8.3.4).
pub(in crate::http) const SEARCH: &[Parameter] = &[
    query("limit", ParameterType::Number, "maximal number of results"),
    query("offset", ParameterType::Number, "number of results to skip"),
    query("cursor", ParameterType::Text, "place to go on from, of the `next` link of this search"),
    query(
        "includefield",
        ParameterType::Text,
        "additional attributes of results, by keyword or tag, with commas; or `all`",
    ),
    query("fuzzymatching", ParameterType::Boolean, "match names by words and sound"),
    query("emptyvaluematching", ParameterType::Boolean, "let `\"\"` match attributes without a value"),
    query(
        "multiplevaluematching",
        ParameterType::Boolean,
        "match only attributes that have all values of a list with backslashes",
    ),
    query(
        "TimezoneOffsetFromUTC",
        ParameterType::Text,
        "the offset of the dates and times asked for, such as `-0500`",
    ),
    query(
        "arrived",
        ParameterType::Text,
        "when the last instance of the study arrived: a date and time (DT) or a range, such as `20261130000000+0900-`",
    ),
    query(
        "orderby",
        ParameterType::Text,
        "attributes to order by, with commas; `-` before one for descending",
    ),
];

/// Parameters of rendering (PS3.18 §8.3.5.1).
pub(in crate::http) const RENDERING: &[Parameter] = &[
    query("annotation", ParameterType::Text, "`patient`, `technique`: text in the image"),
    query("quality", ParameterType::Number, "of a lossy format, 1 to 100"),
    query(
        "viewport",
        ParameterType::Text,
        "`width,height[,left,top,width,height]` in pixels: size of the rendered image, region of the stored one",
    ),
    query(
        "window",
        ParameterType::Text,
        "`center,width,function`; the function is `linear`, `linear-exact` or `sigmoid`",
    ),
    query("iccprofile", ParameterType::Text, "`no`, `yes`, `srgb`, `adobergb` or `rommrgb`"),
];

/// Parameters of thumbnails.
pub(in crate::http) const THUMBNAIL: &[Parameter] =
    &[query("viewport", ParameterType::Text, "maximal `width,height` in pixels")];

/// Parameters of a cut-out (docs/mini.md).
pub(in crate::http) const CUT_OUT_PARAMETERS: &[Parameter] = &[
    query("slices", ParameterType::Text, "`first-last`, from 0 in the order of the stream, both included"),
    query("box", ParameterType::Text, "`x,y,width,height` in pixels of the original"),
    query("binning", ParameterType::Number, "1, 2 or 4: so many slices, rows and columns become one"),
];

/// The parameter of storing a cut-out.
pub(in crate::http) const STORE_CUT_OUT: &[Parameter] =
    &[query("store", ParameterType::Boolean, "`true`: the only effect there is")];

/// Parameters of a zip file.
pub(in crate::http) const ZIPPED: &[Parameter] = &[
    query(
        "dicomdir",
        ParameterType::Text,
        "of `application/zip`: `true` for a file-set with a DICOMDIR (PS3.10 §8)",
    ),
    query(
        "filename",
        ParameterType::Text,
        "of `application/zip`: the name under which a browser saves the file (RFC 6266)",
    ),
];

/// De-identified copies (PS3.15 §E).
pub(in crate::http) const ANONYMIZED: &[Parameter] = &[
    query(
        "anonymize",
        ParameterType::Text,
        "`yes`: de-identified copies (PS3.15 §E, docs/deidentification.md)",
    ),
    query(
        "anonymize-options",
        ParameterType::Text,
        "options of PS3.15 §E.3, with commas, such as `retain-modified-dates`; `none` for none of the settings'",
    ),
];

/// The instances of a series that a zip file holds.
pub(in crate::http) const POSITIONS: &[Parameter] = &[query(
    "instances",
    ParameterType::Text,
    "of `application/zip`: `first-last`, from 1, in the order of Instance Number; all without it",
)];

/// Parameters of the fast stream.
pub(in crate::http) const STREAM: &[Parameter] = &[
    query("slices", ParameterType::Text, "`first-last`, from 0; all without it"),
    query("stage", ParameterType::Number, "the last stage, from 0; all without it"),
    query(
        "version",
        ParameterType::Text,
        "the version that `Content-Location` names; the present one without it",
    ),
];

/// Parameters of the feed of changes.
pub(in crate::http) const CHANGES: &[Parameter] = &[
    query("after", ParameterType::Text, "place in the feed, of `next` or of an event; or `now`"),
    query("limit", ParameterType::Number, "maximal number of transactions whose changes are in the page"),
    query("study", ParameterType::Text, "Study Instance UID of the changes; all without it"),
];

/// Parameters of events.
pub(in crate::http) const EVENTS: &[Parameter] = &[
    header("Last-Event-ID", "the place after the last event that the client has got"),
    query("after", ParameterType::Text, "the same, for the first request; from now on without it"),
    query("study", ParameterType::Text, "Study Instance UID of the changes; all without it"),
];

/// Parameters of the audit log.
pub(in crate::http) const AUDIT: &[Parameter] = &[
    query("from", ParameterType::Text, "first time of the records, a date or as in RFC 3339"),
    query("to", ParameterType::Text, "time after the last record; of a date, the end of the day"),
    query("user", ParameterType::Text, "subject of the access token, or AE title"),
    query("study", ParameterType::Text, "Study Instance UID"),
    query("patient", ParameterType::Text, "Patient ID"),
    query("event", ParameterType::Text, "name or code of the event, as `instances-accessed` or `110103`"),
    query("limit", ParameterType::Number, "maximal number of records"),
    query("after", ParameterType::Text, "place in the log, of `next`; the newest record without it"),
];

/// Parameters of usage.
pub(in crate::http) const USAGE: &[Parameter] = &[
    query(
        "accept",
        ParameterType::Text,
        "media types to choose from before those of the Accept header field",
    ),
    query("from", ParameterType::Text, "first day, as `2026-11-01`; 30 days before the last without it"),
    query("to", ParameterType::Text, "last day; today in UTC without it"),
    query("tenant", ParameterType::Text, "the caller's own tenant, which is also the default"),
];

/// The parameters of the URI service (PS3.18 §9.1.2, §9.4, §9.5).
pub(in crate::http) const URI: &[Parameter] = &[
    required("requestType", "`WADO`"),
    required("studyUID", "Study Instance UID"),
    required("seriesUID", "Series Instance UID"),
    required("objectUID", "SOP Instance UID"),
    query(
        "contentType",
        ParameterType::Text,
        "media types to choose from before those of the Accept header field",
    ),
    query("charset", ParameterType::Text, "ignored: text is in UTF-8"),
    query(
        "transferSyntax",
        ParameterType::Text,
        "of `application/dicom`: the UID of a transfer syntax, or `*` for the stored one",
    ),
    query("frameNumber", ParameterType::Number, "the frame to render, from 1"),
    query("annotation", ParameterType::Text, "`patient`, `technique`: text in the image"),
    query("imageQuality", ParameterType::Number, "of a lossy format, 1 to 100"),
    query("rows", ParameterType::Number, "maximal height of the rendered image, in pixels"),
    query("columns", ParameterType::Number, "maximal width of the rendered image, in pixels"),
    query("region", ParameterType::Text, "`left,top,right,bottom` of the image, from 0.0 to 1.0"),
    query("windowCenter", ParameterType::Text, "centre of the window"),
    query("windowWidth", ParameterType::Text, "width of the window"),
    query("presentationUID", ParameterType::Text, "SOP Instance UID of a presentation state"),
    query("presentationSeriesUID", ParameterType::Text, "its Series Instance UID"),
];

/// A parameter of the query.
pub(super) const fn query(name: &'static str, kind: ParameterType, about: &'static str) -> Parameter {
    Parameter { name, location: ParameterLocation::Query, kind, is_required: false, about }
}

const fn header(name: &'static str, about: &'static str) -> Parameter {
    Parameter {
        name,
        location: ParameterLocation::Header,
        kind: ParameterType::Text,
        is_required: false,
        about,
    }
}

const fn required(name: &'static str, about: &'static str) -> Parameter {
    Parameter {
        name,
        location: ParameterLocation::Query,
        kind: ParameterType::Text,
        is_required: true,
        about,
    }
}
