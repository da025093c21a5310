//! Cut-outs of volumes, which are not of the standard (docs/mini.md).

use axum::routing::on;

use crate::http::audit::AuditRule;
use crate::http::resources::dicom_web::{audited, store, whole};
use crate::http::resources::media_types::CUT_OUT;
use crate::http::resources::operation::{Operation, Resource};
use crate::http::resources::parameters::{CONDITIONS, CUT_OUT_PARAMETERS, FORM, Parameter, STORE_CUT_OUT};
use crate::http::{retrieve, store as storing};

/// The document that specifies the operations.
const SECTION: &str = "docs/mini.md";

/// The resources, in the order in which they are described.
pub(super) const RESOURCES: &[Resource] = &[Resource {
    path: "/dicom-web/studies/{study}/series/{series}/mini",
    operations: &[
        Operation {
            section: SECTION,
            statuses: STATUSES,
            ..audited(
                AuditRule::Instances,
                whole(
                    "RetrieveCutOut",
                    |method| on(method, retrieve::mini::mini),
                    "a part of a volume as instances of a series of its own",
                    PARAMETERS,
                    CUT_OUT,
                ),
            )
        },
        Operation {
            section: SECTION,
            statuses: STORE_STATUSES,
            parameters: STORE_PARAMETERS,
            takes: &[],
            ..store(
                "StoreCutOut",
                |method| on(method, storing::mini::mini),
                "stores a part of a volume as a series of its study",
            )
        },
    ],
}];

const PARAMETERS: &[&[Parameter]] = &[FORM, CUT_OUT_PARAMETERS, CONDITIONS];
const STORE_PARAMETERS: &[&[Parameter]] = &[FORM, CUT_OUT_PARAMETERS, STORE_CUT_OUT];
const STATUSES: &[u16] = &[200, 304, 404, 406, 409, 413, 400, 429, 500, 503];
const STORE_STATUSES: &[u16] = &[200, 202, 404, 406, 409, 413, 400, 429, 500, 503, 507];
