//! The DICOMweb services and the URI service: their resources, each group under its section of PS3.18.

use axum::routing::on;

use crate::archive::access::Right;
use crate::http::audit::AuditRule;
use crate::http::auth::credentials::ByShare;
use crate::http::resources::capabilities;
use crate::http::resources::media_types::{
    BULK_DATA, CAPABILITIES, DESCRIBED, FOUND, FRAMES, IMAGES, PARTS_OF_BYTES, PARTS_OF_IMAGES, RENDERED,
    STORABLE, STORED, THUMBNAILS, URI_RESULTS, WHOLE, WHOLE_INSTANCE,
};
use crate::http::resources::operation::{Access, Handler, Operation, Resource};
use crate::http::resources::parameters::{
    ANONYMIZED, CONDITIONS, FORM, POSITIONS, Parameter, RANGE, RENDERING, SEARCH, THUMBNAIL, URI, ZIPPED,
};
use crate::http::retrieve::{
    bulkdata, bulkdata_of_instances, frames, instances, metadata, rendered, thumbnail,
};
use crate::http::{delete, search, store, wado_uri};
use crate::query::Level;
use crate::query::Level::{Instance, Series, Study};

/// The resources, in the order in which they are described.
pub(super) const RESOURCES: &[Resource] = &[
    // §8.9 Retrieve Capabilities, with or without the final slash.
    Resource {
        path: "/dicom-web",
        operations: &[
            describe("DescribeService", |method| on(method, capabilities)),
            options("RetrieveCapabilities", |method| on(method, capabilities)),
        ],
    },
    Resource {
        path: "/dicom-web/",
        operations: &[
            describe("DescribeServiceRoot", |method| on(method, capabilities)),
            options("RetrieveCapabilitiesRoot", |method| on(method, capabilities)),
        ],
    },
    // §9 URI Service, at two places.
    Resource {
        path: "/wado",
        operations: &[by_uri("RetrieveByUri", |method| on(method, wado_uri::retrieve))],
    },
    Resource {
        path: "/dicom-web/wado",
        operations: &[by_uri("RetrieveByUriBelow", |method| on(method, wado_uri::retrieve))],
    },
    // §10.5 Store and §10.6 Search share URLs with §10.4 Retrieve.
    Resource {
        path: "/dicom-web/studies",
        operations: &[
            search("SearchStudies", |method| on(method, search::studies), "studies", Study),
            store("StoreInstances", |method| on(method, store::store), "stores instances of any study"),
        ],
    },
    Resource {
        path: "/dicom-web/studies/{study}",
        operations: &[
            audited(
                AuditRule::Whole,
                whole(
                    "RetrieveStudy",
                    |method| on(method, instances::instances),
                    "the instances of a study",
                    WHOLE_PARAMETERS,
                    WHOLE,
                ),
            ),
            store("StoreStudyInstances", |method| on(method, store::store), "stores instances of one study"),
            delete("DeleteStudy", |method| on(method, delete::delete), "deletes a study and its instances"),
        ],
    },
    Resource {
        path: "/dicom-web/studies/{study}/series",
        operations: &[search(
            "SearchStudySeries",
            |method| on(method, search::series),
            "series of a study",
            Series,
        )],
    },
    Resource {
        path: "/dicom-web/studies/{study}/series/{series}/instances",
        operations: &[search(
            "SearchStudySeriesInstances",
            |method| on(method, search::instances),
            "instances of a series",
            Instance,
        )],
    },
    Resource {
        path: "/dicom-web/studies/{study}/instances",
        operations: &[search(
            "SearchStudyInstances",
            |method| on(method, search::instances),
            "instances of a study",
            Instance,
        )],
    },
    Resource {
        path: "/dicom-web/series",
        operations: &[search(
            "SearchSeries",
            |method| on(method, search::series),
            "series of any study",
            Series,
        )],
    },
    Resource {
        path: "/dicom-web/instances",
        operations: &[search(
            "SearchInstances",
            |method| on(method, search::instances),
            "instances of any study",
            Instance,
        )],
    },
    // §10.4 Retrieve.
    Resource {
        path: "/dicom-web/studies/{study}/series/{series}",
        operations: &[
            audited(
                AuditRule::Whole,
                whole(
                    "RetrieveSeries",
                    |method| on(method, instances::instances),
                    "the instances of a series",
                    SERIES_PARAMETERS,
                    WHOLE,
                ),
            ),
            delete("DeleteSeries", |method| on(method, delete::delete), "deletes a series and its instances"),
        ],
    },
    Resource {
        path: "/dicom-web/studies/{study}/series/{series}/instances/{instance}",
        operations: &[
            audited(
                AuditRule::Instances,
                whole(
                    "RetrieveInstance",
                    |method| on(method, instances::instances),
                    "an instance",
                    WHOLE_PARAMETERS,
                    WHOLE_INSTANCE,
                ),
            ),
            delete("DeleteInstance", |method| on(method, delete::delete), "deletes an instance"),
        ],
    },
    Resource {
        path: "/dicom-web/studies/{study}/metadata",
        operations: &[retrieve(
            "RetrieveStudyMetadata",
            |method| on(method, metadata::metadata),
            "attributes without bulk data",
            METADATA_PARAMETERS,
            DESCRIBED,
        )],
    },
    Resource {
        path: "/dicom-web/studies/{study}/series/{series}/metadata",
        operations: &[retrieve(
            "RetrieveSeriesMetadata",
            |method| on(method, metadata::metadata),
            "attributes without bulk data",
            METADATA_PARAMETERS,
            DESCRIBED,
        )],
    },
    Resource {
        path: "/dicom-web/studies/{study}/series/{series}/instances/{instance}/metadata",
        operations: &[retrieve(
            "RetrieveInstanceMetadata",
            |method| on(method, metadata::metadata),
            "attributes without bulk data",
            METADATA_PARAMETERS,
            DESCRIBED,
        )],
    },
    Resource {
        path: "/dicom-web/studies/{study}/rendered",
        operations: &[retrieve(
            "RetrieveRenderedStudy",
            |method| on(method, rendered::rendered),
            "an image of each frame",
            RENDERED_PARAMETERS,
            PARTS_OF_IMAGES,
        )],
    },
    Resource {
        path: "/dicom-web/studies/{study}/series/{series}/rendered",
        operations: &[retrieve(
            "RetrieveRenderedSeries",
            |method| on(method, rendered::rendered),
            "an image of each frame",
            RENDERED_PARAMETERS,
            PARTS_OF_IMAGES,
        )],
    },
    Resource {
        path: "/dicom-web/studies/{study}/series/{series}/instances/{instance}/rendered",
        operations: &[retrieve(
            "RetrieveRenderedInstance",
            |method| on(method, rendered::rendered),
            "an image, the document or the video",
            RENDERED_PARAMETERS,
            RENDERED,
        )],
    },
    Resource {
        path: "/dicom-web/studies/{study}/series/{series}/instances/{instance}/frames/{frames}/rendered",
        operations: &[retrieve(
            "RetrieveRenderedFrames",
            |method| on(method, rendered::frames),
            "images of frames",
            RENDERED_PARAMETERS,
            IMAGES,
        )],
    },
    Resource {
        path: "/dicom-web/studies/{study}/thumbnail",
        operations: &[audited(
            AuditRule::Thumbnails,
            retrieve(
                "RetrieveStudyThumbnail",
                |method| on(method, thumbnail::thumbnail),
                "a small image",
                THUMBNAIL_PARAMETERS,
                THUMBNAILS,
            ),
        )],
    },
    Resource {
        path: "/dicom-web/studies/{study}/series/{series}/thumbnail",
        operations: &[audited(
            AuditRule::Thumbnails,
            retrieve(
                "RetrieveSeriesThumbnail",
                |method| on(method, thumbnail::thumbnail),
                "a small image",
                THUMBNAIL_PARAMETERS,
                THUMBNAILS,
            ),
        )],
    },
    Resource {
        path: "/dicom-web/studies/{study}/series/{series}/instances/{instance}/thumbnail",
        operations: &[audited(
            AuditRule::Thumbnails,
            retrieve(
                "RetrieveInstanceThumbnail",
                |method| on(method, thumbnail::thumbnail),
                "a small image",
                THUMBNAIL_PARAMETERS,
                THUMBNAILS,
            ),
        )],
    },
    Resource {
        path: "/dicom-web/studies/{study}/series/{series}/instances/{instance}/frames/{frames}/thumbnail",
        operations: &[audited(
            AuditRule::Thumbnails,
            retrieve(
                "RetrieveFrameThumbnail",
                |method| on(method, thumbnail::frame),
                "a small image",
                THUMBNAIL_PARAMETERS,
                THUMBNAILS,
            ),
        )],
    },
    Resource {
        path: "/dicom-web/studies/{study}/series/{series}/instances/{instance}/frames/{frames}",
        operations: &[retrieve(
            "RetrieveFrames",
            |method| on(method, frames::frames),
            "frames, by their numbers from 1",
            BYTES,
            FRAMES,
        )],
    },
    Resource {
        path: "/dicom-web/studies/{study}/bulkdata",
        operations: &[audited(
            AuditRule::Whole,
            retrieve(
                "RetrieveStudyBulkdata",
                |method| on(method, bulkdata_of_instances::bulkdata),
                "all bulk values of a study",
                METADATA_PARAMETERS,
                PARTS_OF_BYTES,
            ),
        )],
    },
    Resource {
        path: "/dicom-web/studies/{study}/series/{series}/bulkdata",
        operations: &[audited(
            AuditRule::Whole,
            retrieve(
                "RetrieveSeriesBulkdata",
                |method| on(method, bulkdata_of_instances::bulkdata),
                "all bulk values of a series",
                METADATA_PARAMETERS,
                PARTS_OF_BYTES,
            ),
        )],
    },
    Resource {
        path: "/dicom-web/studies/{study}/series/{series}/instances/{instance}/bulkdata",
        operations: &[retrieve(
            "RetrieveInstanceBulkdata",
            |method| on(method, bulkdata_of_instances::bulkdata),
            "all bulk values of an instance",
            METADATA_PARAMETERS,
            PARTS_OF_BYTES,
        )],
    },
    Resource {
        path: "/dicom-web/studies/{study}/series/{series}/instances/{instance}/bulkdata/{path}",
        operations: &[retrieve(
            "RetrieveBulkdata",
            |method| on(method, bulkdata::bulkdata),
            "a bulk value that the metadata refers to",
            BYTES,
            BULK_DATA,
        )],
    },
    Resource {
        path: "/dicom-web/studies/{study}/pixeldata",
        operations: &[audited(
            AuditRule::Whole,
            retrieve(
                "RetrieveStudyPixelData",
                |method| on(method, bulkdata_of_instances::pixeldata),
                "all pixel data of a study",
                METADATA_PARAMETERS,
                PARTS_OF_BYTES,
            ),
        )],
    },
    Resource {
        path: "/dicom-web/studies/{study}/series/{series}/pixeldata",
        operations: &[audited(
            AuditRule::Whole,
            retrieve(
                "RetrieveSeriesPixelData",
                |method| on(method, bulkdata_of_instances::pixeldata),
                "all pixel data of a series",
                METADATA_PARAMETERS,
                PARTS_OF_BYTES,
            ),
        )],
    },
    Resource {
        path: "/dicom-web/studies/{study}/series/{series}/instances/{instance}/pixeldata",
        operations: &[retrieve(
            "RetrieveInstancePixelData",
            |method| on(method, bulkdata_of_instances::pixeldata),
            "all pixel data of an instance",
            METADATA_PARAMETERS,
            PARTS_OF_BYTES,
        )],
    },
];

/// Parameters of retrieval.
const BYTES: &[&[Parameter]] = &[FORM, CONDITIONS, RANGE];
const WHOLE_PARAMETERS: &[&[Parameter]] = &[FORM, CONDITIONS, RANGE, ZIPPED, ANONYMIZED];
const SERIES_PARAMETERS: &[&[Parameter]] = &[FORM, CONDITIONS, RANGE, ZIPPED, POSITIONS, ANONYMIZED];
const METADATA_PARAMETERS: &[&[Parameter]] = &[FORM, CONDITIONS];
const RENDERED_PARAMETERS: &[&[Parameter]] = &[FORM, RENDERING, CONDITIONS, RANGE];
const THUMBNAIL_PARAMETERS: &[&[Parameter]] = &[FORM, THUMBNAIL, CONDITIONS, RANGE];

/// Status codes; the last ones can answer any request: bad request, too many requests, failure of the server,
/// not available for now.
const SEARCHED: &[u16] = &[200, 204, 404, 406, 400, 429, 500, 503];
const RETRIEVE_RANGES: &[u16] = &[200, 206, 304, 404, 406, 413, 416, 400, 429, 500, 503];
const STORE: &[u16] = &[200, 202, 406, 408, 409, 413, 415, 400, 429, 500, 503, 507];
const DELETE: &[u16] = &[204, 404, 400, 429, 500, 503, 507];
const DESCRIPTION: &[u16] = &[200, 206, 304, 406, 416, 400, 429, 500, 503];

const fn describe(id: &'static str, handler: Handler) -> Operation {
    Operation {
        parameters: &[FORM, CONDITIONS],
        gives: CAPABILITIES,
        audit: AuditRule::None,
        statuses: DESCRIPTION,
        ..Operation::get(id, handler, "the resources of the service", "PS3.18 §8.9")
    }
}

const fn options(id: &'static str, handler: Handler) -> Operation {
    Operation { method: "OPTIONS", ..describe(id, handler) }
}

const fn by_uri(id: &'static str, handler: Handler) -> Operation {
    Operation {
        parameters: &[URI, ANONYMIZED, CONDITIONS, RANGE],
        gives: URI_RESULTS,
        audit: AuditRule::ByUri,
        statuses: RETRIEVE_RANGES,
        // It gives whole instances, too.
        by_share: ByShare::Download,
        ..Operation::get(id, handler, "an instance or an image of it", "PS3.18 §9")
    }
}

const fn search(id: &'static str, handler: Handler, summary: &'static str, level: Level) -> Operation {
    Operation {
        parameters: &[FORM, SEARCH],
        matches: Some(level),
        gives: FOUND,
        audit: AuditRule::Query,
        statuses: SEARCHED,
        by_share: ByShare::View,
        ..Operation::get(id, handler, summary, "PS3.18 §10.6")
    }
}

const fn retrieve(
    id: &'static str,
    handler: Handler,
    summary: &'static str,
    parameters: &'static [&'static [Parameter]],
    gives: &'static [&'static str],
) -> Operation {
    Operation {
        parameters,
        gives,
        statuses: RETRIEVE_RANGES,
        by_share: ByShare::View,
        by_url: true,
        ..Operation::get(id, handler, summary, "PS3.18 §10.4")
    }
}

/// The retrieval of whole instances.
pub(super) const fn whole(
    id: &'static str,
    handler: Handler,
    summary: &'static str,
    parameters: &'static [&'static [Parameter]],
    gives: &'static [&'static str],
) -> Operation {
    Operation { by_share: ByShare::Download, ..retrieve(id, handler, summary, parameters, gives) }
}

/// The same operation with another event of the audit log.
pub(super) const fn audited(audit: AuditRule, operation: Operation) -> Operation {
    Operation { audit, ..operation }
}

pub(super) const fn store(id: &'static str, handler: Handler, summary: &'static str) -> Operation {
    Operation {
        method: "POST",
        access: Access::Needs(Right::Write),
        audit: AuditRule::InArchive,
        parameters: &[FORM],
        takes: STORABLE,
        gives: STORED,
        statuses: STORE,
        ..Operation::get(id, handler, summary, "PS3.18 §10.5")
    }
}

const fn delete(id: &'static str, handler: Handler, summary: &'static str) -> Operation {
    Operation {
        method: "DELETE",
        access: Access::Needs(Right::Delete),
        audit: AuditRule::InArchive,
        statuses: DELETE,
        ..Operation::get(id, handler, summary, "docs/conformance-statement.md")
    }
}
