//! What the server can do: every resource with its methods. The one source of the descriptions in WADL and OpenAPI, checked
//! against the routes and against what is answered.

use crate::archive::access::Right;
use crate::http::capabilities::parameters::Parameter;
use crate::http::capabilities::parameters::{
    CONDITIONS, DRAWING, FORM, POSITIONS, RANGE, SEARCH, SLICES, THUMBNAIL, URI, ZIPPED,
};
use crate::query::Level;
use crate::query::Level::{Instance, Series, Study};

/// A resource, by the template of its path.
pub(super) struct Resource {
    /// The path, with parameters in braces; `{frames}` is a list of numbers from 1, `{path}` may hold slashes.
    pub(super) path: &'static str,
    /// What can be done with it; whoever can GET can HEAD.
    pub(super) operations: &'static [Operation],
}

/// A method of a resource.
pub(super) struct Operation {
    /// Its name, as GET.
    pub(super) method: &'static str,
    /// The name of the transaction, without spaces; each once.
    pub(super) id: &'static str,
    /// Who may do it.
    pub(super) access: Access,
    /// What it gives or does, in a line.
    pub(super) summary: &'static str,
    /// Where it is described.
    pub(super) section: &'static str,
    /// Its parameters besides those in the path.
    pub(super) parameters: &'static [&'static [Parameter]],
    /// Of a search: what its results are, which says what attributes it matches.
    pub(super) matches: Option<Level>,
    /// The media types of the request's body; none if it has no body.
    pub(super) takes: &'static [&'static str],
    /// The media types of the answer's body, the default first.
    pub(super) gives: &'static [&'static str],
    /// The status codes of answers; besides those of [`Access`].
    pub(super) statuses: &'static [u16],
}

impl Operation {
    /// All status codes of answers: those who must say who they are may have said it wrongly, or may not do this.
    pub(super) fn all_statuses(&self) -> impl Iterator<Item = u16> {
        let of_access: &[u16] = if self.access == Access::Public { &[] } else { &[401, 403] };
        self.statuses.iter().chain(of_access).copied()
    }
}

/// Who may do something.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Access {
    /// Anyone: it holds nothing of anybody.
    Public,
    /// Whoever has a right; it is done in the caller's own tenant.
    Needs(Right),
}

/// Every resource, in the order of `routes.rs`. It exists as described here, or not at all: the gate (`http/auth`) lets nothing else
/// through, and this is where it looks up who may.
pub(super) const RESOURCES: &[Resource] = &[
    // §8.9 Retrieve Capabilities, with or without the final slash.
    Resource {
        path: "/dicom-web",
        operations: &[described("DescribeService"), options("RetrieveCapabilities")],
    },
    Resource {
        path: "/dicom-web/",
        operations: &[described("DescribeServiceRoot"), options("RetrieveCapabilitiesRoot")],
    },
    // §9 URI Service, at two places.
    Resource {
        path: "/wado",
        operations: &[get(
            "RetrieveByUri",
            "an instance or a picture of it",
            "PS3.18 §9",
            &[URI, CONDITIONS, RANGE],
            URI_ANSWERS,
            RETRIEVE_RANGES,
        )],
    },
    Resource {
        path: "/dicom-web/wado",
        operations: &[get(
            "RetrieveByUriBelow",
            "an instance or a picture of it",
            "PS3.18 §9",
            &[URI, CONDITIONS, RANGE],
            URI_ANSWERS,
            RETRIEVE_RANGES,
        )],
    },
    // §10.5 Store and §10.6 Search share URLs with §10.4 Retrieve.
    Resource {
        path: "/dicom-web/studies",
        operations: &[
            search("SearchStudies", "studies", Study),
            store("StoreInstances", "stores instances of any study"),
        ],
    },
    Resource {
        path: "/dicom-web/studies/{study}",
        operations: &[
            retrieve("RetrieveStudy", "the instances of a study", WHOLE_PARAMETERS, WHOLE),
            store("StoreStudyInstances", "stores instances of one study"),
            delete("DeleteStudy", "deletes a study with all that is in it"),
        ],
    },
    Resource {
        path: "/dicom-web/studies/{study}/series",
        operations: &[search("SearchStudySeries", "series of a study", Series)],
    },
    Resource {
        path: "/dicom-web/studies/{study}/series/{series}/instances",
        operations: &[search("SearchStudySeriesInstances", "instances of a series", Instance)],
    },
    Resource {
        path: "/dicom-web/studies/{study}/instances",
        operations: &[search("SearchStudyInstances", "instances of a study", Instance)],
    },
    Resource {
        path: "/dicom-web/series",
        operations: &[search("SearchSeries", "series of any study", Series)],
    },
    Resource {
        path: "/dicom-web/instances",
        operations: &[search("SearchInstances", "instances of any study", Instance)],
    },
    // §10.4 Retrieve.
    Resource {
        path: "/dicom-web/studies/{study}/series/{series}",
        operations: &[
            retrieve("RetrieveSeries", "the instances of a series", SERIES_PARAMETERS, WHOLE),
            delete("DeleteSeries", "deletes a series with all that is in it"),
        ],
    },
    Resource {
        path: "/dicom-web/studies/{study}/series/{series}/instances/{instance}",
        operations: &[
            retrieve("RetrieveInstance", "an instance", WHOLE_PARAMETERS, WHOLE_INSTANCE),
            delete("DeleteInstance", "deletes an instance"),
        ],
    },
    Resource {
        path: "/dicom-web/studies/{study}/metadata",
        operations: &[retrieve(
            "RetrieveStudyMetadata",
            "attributes without bulk data",
            METADATA_PARAMETERS,
            DESCRIBED,
        )],
    },
    Resource {
        path: "/dicom-web/studies/{study}/series/{series}/metadata",
        operations: &[retrieve(
            "RetrieveSeriesMetadata",
            "attributes without bulk data",
            METADATA_PARAMETERS,
            DESCRIBED,
        )],
    },
    Resource {
        path: "/dicom-web/studies/{study}/series/{series}/instances/{instance}/metadata",
        operations: &[retrieve(
            "RetrieveInstanceMetadata",
            "attributes without bulk data",
            METADATA_PARAMETERS,
            DESCRIBED,
        )],
    },
    Resource {
        path: "/dicom-web/studies/{study}/rendered",
        operations: &[retrieve("RetrieveRenderedStudy", "a picture of each frame", DRAWN, PARTS_OF_PICTURES)],
    },
    Resource {
        path: "/dicom-web/studies/{study}/series/{series}/rendered",
        operations: &[retrieve(
            "RetrieveRenderedSeries",
            "a picture of each frame",
            DRAWN,
            PARTS_OF_PICTURES,
        )],
    },
    Resource {
        path: "/dicom-web/studies/{study}/series/{series}/instances/{instance}/rendered",
        operations: &[retrieve(
            "RetrieveRenderedInstance",
            "a picture, the document or the video",
            DRAWN,
            RENDERED,
        )],
    },
    Resource {
        path: "/dicom-web/studies/{study}/series/{series}/instances/{instance}/frames/{frames}/rendered",
        operations: &[retrieve("RetrieveRenderedFrames", "pictures of frames", DRAWN, PICTURES)],
    },
    Resource {
        path: "/dicom-web/studies/{study}/thumbnail",
        operations: &[retrieve("RetrieveStudyThumbnail", "a small picture", SMALL, THUMBNAILS)],
    },
    Resource {
        path: "/dicom-web/studies/{study}/series/{series}/thumbnail",
        operations: &[retrieve("RetrieveSeriesThumbnail", "a small picture", SMALL, THUMBNAILS)],
    },
    Resource {
        path: "/dicom-web/studies/{study}/series/{series}/instances/{instance}/thumbnail",
        operations: &[retrieve("RetrieveInstanceThumbnail", "a small picture", SMALL, THUMBNAILS)],
    },
    Resource {
        path: "/dicom-web/studies/{study}/series/{series}/instances/{instance}/frames/{frames}/thumbnail",
        operations: &[retrieve("RetrieveFrameThumbnail", "a small picture", SMALL, THUMBNAILS)],
    },
    Resource {
        path: "/dicom-web/studies/{study}/series/{series}/instances/{instance}/frames/{frames}",
        operations: &[retrieve("RetrieveFrames", "frames, by their numbers from 1", BYTES, FRAMES)],
    },
    Resource {
        path: "/dicom-web/studies/{study}/bulkdata",
        operations: &[retrieve(
            "RetrieveStudyBulkdata",
            "all bulk values of a study",
            METADATA_PARAMETERS,
            PARTS_OF_BYTES,
        )],
    },
    Resource {
        path: "/dicom-web/studies/{study}/series/{series}/bulkdata",
        operations: &[retrieve(
            "RetrieveSeriesBulkdata",
            "all bulk values of a series",
            METADATA_PARAMETERS,
            PARTS_OF_BYTES,
        )],
    },
    Resource {
        path: "/dicom-web/studies/{study}/series/{series}/instances/{instance}/bulkdata",
        operations: &[retrieve(
            "RetrieveInstanceBulkdata",
            "all bulk values of an instance",
            METADATA_PARAMETERS,
            PARTS_OF_BYTES,
        )],
    },
    Resource {
        path: "/dicom-web/studies/{study}/series/{series}/instances/{instance}/bulkdata/{path}",
        operations: &[retrieve(
            "RetrieveBulkdata",
            "a bulk value that the metadata refers to",
            BYTES,
            BULK_DATA,
        )],
    },
    Resource {
        path: "/dicom-web/studies/{study}/pixeldata",
        operations: &[retrieve(
            "RetrieveStudyPixelData",
            "all pixel data of a study",
            METADATA_PARAMETERS,
            PARTS_OF_BYTES,
        )],
    },
    Resource {
        path: "/dicom-web/studies/{study}/series/{series}/pixeldata",
        operations: &[retrieve(
            "RetrieveSeriesPixelData",
            "all pixel data of a series",
            METADATA_PARAMETERS,
            PARTS_OF_BYTES,
        )],
    },
    Resource {
        path: "/dicom-web/studies/{study}/series/{series}/instances/{instance}/pixeldata",
        operations: &[retrieve(
            "RetrieveInstancePixelData",
            "all pixel data of an instance",
            METADATA_PARAMETERS,
            PARTS_OF_BYTES,
        )],
    },
    // What is not of the standard.
    Resource {
        path: "/stream/studies/{study}/series/{series}",
        operations: &[get(
            "RetrieveStream",
            "slices of a series as JPEG 2000",
            "docs/fast-stream.md",
            &[SLICES, CONDITIONS, RANGE],
            &["application/vnd.cuspid.stream"],
            RETRIEVE_RANGES,
        )],
    },
    Resource {
        path: "/openapi.json",
        // It says how to get in.
        operations: &[public(get(
            "DescribeInOpenapi",
            "this description",
            "OpenAPI 3.1",
            &[CONDITIONS, RANGE],
            &["application/json"],
            DESCRIPTION,
        ))],
    },
    Resource { path: "/", operations: &[page("ShowConsole", "the built-in web page", HTML)] },
    Resource {
        path: "/console/console.css",
        operations: &[page("ShowConsoleStyle", "its style sheet", &["text/css"])],
    },
    Resource {
        path: "/console/console.js",
        operations: &[page("ShowConsoleScript", "its script", &["text/javascript"])],
    },
    Resource {
        path: "/console/sign-in.js",
        operations: &[page("ShowConsoleSignIn", "its script for those who sign in", &["text/javascript"])],
    },
    Resource {
        path: "/viewer",
        operations: &[public(get(
            "EnterViewer",
            "leads to the viewer",
            "docs/viewer.md",
            &[],
            &[],
            &[308, 429],
        ))],
    },
    Resource {
        path: "/viewer/",
        operations: &[public(get("ShowViewer", "the OHIF viewer", "docs/viewer.md", &[], HTML, FILE))],
    },
    Resource {
        path: "/viewer/app-config.js",
        operations: &[page("ConfigureViewer", "the viewer's configuration", &["text/javascript"])],
    },
    Resource {
        path: "/viewer/{path}",
        operations: &[public(get(
            "ShowViewerFile",
            "a file of the viewer",
            "docs/viewer.md",
            &[RANGE],
            HTML,
            FILE,
        ))],
    },
    Resource { path: "/healthz", operations: &[page("CheckHealth", "whether the process answers", TEXT)] },
    Resource {
        path: "/readyz",
        operations: &[page("CheckReadiness", "whether requests can be served", TEXT)],
    },
    Resource {
        path: "/metrics",
        operations: &[Operation {
            access: Access::Needs(Right::Administer),
            ..page("ReadMetrics", "metrics in the text format of Prometheus", TEXT)
        }],
    },
];

const DICOM_JSON: &str = "application/dicom+json";
const XML_PARTS: &str = "multipart/related; type=\"application/dicom+xml\"";
const DICOM_PARTS: &str = "multipart/related; type=\"application/dicom\"";
const JPEG_PARTS: &str = "multipart/related; type=\"image/jpeg\"";
const PNG_PARTS: &str = "multipart/related; type=\"image/png\"";
const GIF_PARTS: &str = "multipart/related; type=\"image/gif\"";
const OCTET_PARTS: &str = "multipart/related; type=\"application/octet-stream\"";
const OCTETS: &str = "application/octet-stream";

/// Media types of answers.
const CAPABILITIES: &[&str] = &["application/vnd.sun.wadl+xml", "application/json"];
const FOUND: &[&str] = &[DICOM_JSON, "application/json", XML_PARTS, "text/csv"];
const DESCRIBED: &[&str] = &[DICOM_JSON, "application/json", XML_PARTS];
const WHOLE: &[&str] = &[DICOM_PARTS, OCTET_PARTS, "application/zip"];
const WHOLE_INSTANCE: &[&str] = &[DICOM_PARTS, OCTET_PARTS, "application/dicom", "application/zip"];
const THUMBNAILS: &[&str] = &["image/jpeg", "image/png", "image/gif"];
const PICTURES: &[&str] = &["image/jpeg", "image/png", "image/gif", JPEG_PARTS, PNG_PARTS, GIF_PARTS];
const PARTS_OF_PICTURES: &[&str] = &[JPEG_PARTS, PNG_PARTS, GIF_PARTS];
#[rustfmt::skip]
const RENDERED: &[&str] = &[
    "image/jpeg", "image/png", "image/gif", JPEG_PARTS, PNG_PARTS, GIF_PARTS,
    "text/html", "text/plain", "text/xml", "application/pdf", "model/stl", "model/obj", "model/mtl",
    "video/mpeg", "video/mp4", "video/H265",
];
#[rustfmt::skip]
const URI_ANSWERS: &[&str] = &[
    "image/jpeg", "image/png", "image/gif", "application/dicom",
    "text/html", "text/plain", "text/xml", "application/pdf", "model/stl", "model/obj", "model/mtl",
    "video/mpeg", "video/mp4", "video/H265",
];
#[rustfmt::skip]
const FRAMES: &[&str] = &[
    OCTET_PARTS, OCTETS, JPEG_PARTS, "image/jpeg",
    "multipart/related; type=\"image/jls\"", "image/jls",
    "multipart/related; type=\"image/jp2\"", "image/jp2",
    "multipart/related; type=\"image/jphc\"", "image/jphc",
    "multipart/related; type=\"image/dicom-rle\"", "image/dicom-rle",
];
#[rustfmt::skip]
const PARTS_OF_BYTES: &[&str] = &[
    OCTET_PARTS, JPEG_PARTS,
    "multipart/related; type=\"image/jls\"", "multipart/related; type=\"image/jp2\"",
    "multipart/related; type=\"image/jphc\"", "multipart/related; type=\"image/dicom-rle\"",
];
const BULK_DATA: &[&str] = &[OCTET_PARTS, OCTETS];
const STORED: &[&str] = &[DICOM_JSON, "application/dicom+xml"];
const HTML: &[&str] = &["text/html"];
const TEXT: &[&str] = &["text/plain"];

/// Media types of what is stored.
#[rustfmt::skip]
const STORABLE: &[&str] = &[
    DICOM_PARTS, "multipart/related; type=\"application/dicom+json\"", XML_PARTS, "application/dicom", "application/zip",
];

/// Parameters of what is retrieved.
const BYTES: &[&[Parameter]] = &[FORM, CONDITIONS, RANGE];
const WHOLE_PARAMETERS: &[&[Parameter]] = &[FORM, CONDITIONS, RANGE, ZIPPED];
const SERIES_PARAMETERS: &[&[Parameter]] = &[FORM, CONDITIONS, RANGE, ZIPPED, POSITIONS];
const METADATA_PARAMETERS: &[&[Parameter]] = &[FORM, CONDITIONS];
const DRAWN: &[&[Parameter]] = &[FORM, DRAWING, CONDITIONS, RANGE];
const SMALL: &[&[Parameter]] = &[FORM, THUMBNAIL, CONDITIONS, RANGE];

/// Status codes: what every request may get comes last. It is wrong, the client has too many under way, the server fails, or it
/// cannot for now.
const SEARCHED: &[u16] = &[200, 204, 404, 406, 400, 429, 500, 503];
const RETRIEVE_RANGES: &[u16] = &[200, 206, 304, 404, 406, 413, 416, 400, 429, 500, 503];
const STORE: &[u16] = &[200, 202, 406, 408, 409, 413, 415, 400, 429, 500, 503];
const DELETE: &[u16] = &[204, 404, 400, 429, 500, 503];
const DESCRIPTION: &[u16] = &[200, 206, 304, 406, 416, 400, 429, 500, 503];
const PAGE: &[u16] = &[200, 429, 500, 503];
const FILE: &[u16] = &[200, 206, 304, 404, 416, 429, 500, 503];

/// Reads something of the caller's tenant; what is otherwise says so.
const fn get(
    id: &'static str,
    summary: &'static str,
    section: &'static str,
    parameters: &'static [&'static [Parameter]],
    gives: &'static [&'static str],
    statuses: &'static [u16],
) -> Operation {
    Operation {
        method: "GET",
        id,
        access: Access::Needs(Right::Read),
        summary,
        section,
        parameters,
        matches: None,
        takes: &[],
        gives,
        statuses,
    }
}

const fn described(id: &'static str) -> Operation {
    get(id, "what the service can do", "PS3.18 §8.9", &[FORM, CONDITIONS], CAPABILITIES, DESCRIPTION)
}

const fn options(id: &'static str) -> Operation {
    Operation { method: "OPTIONS", ..described(id) }
}

const fn search(id: &'static str, summary: &'static str, level: Level) -> Operation {
    let matches = Some(level);
    Operation { matches, ..get(id, summary, "PS3.18 §10.6", &[FORM, SEARCH], FOUND, SEARCHED) }
}

const fn retrieve(
    id: &'static str,
    summary: &'static str,
    parameters: &'static [&'static [Parameter]],
    gives: &'static [&'static str],
) -> Operation {
    get(id, summary, "PS3.18 §10.4", parameters, gives, RETRIEVE_RANGES)
}

const fn store(id: &'static str, summary: &'static str) -> Operation {
    let from = get(id, summary, "PS3.18 §10.5", &[FORM], STORED, STORE);
    Operation { method: "POST", access: Access::Needs(Right::Write), takes: STORABLE, ..from }
}

const fn delete(id: &'static str, summary: &'static str) -> Operation {
    let from = get(id, summary, "docs/conformance-statement.md", &[], &[], DELETE);
    Operation { method: "DELETE", access: Access::Needs(Right::Delete), ..from }
}

/// A page, a file or a line of text that is none of DICOM's.
const fn page(id: &'static str, summary: &'static str, gives: &'static [&'static str]) -> Operation {
    public(get(id, summary, "docs", &[], gives, PAGE))
}

/// The same for anyone.
const fn public(operation: Operation) -> Operation {
    Operation { access: Access::Public, ..operation }
}
