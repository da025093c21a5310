//! How the server is, for the console: `GET /status`.

use std::sync::Arc;

use axum::extract::State;
use axum::http::header::{CACHE_CONTROL, CONTENT_TYPE};
use axum::response::IntoResponse;
use serde_json::{Value, json};

use crate::archive::access::Caller;
use crate::archive::commitments::CommitmentReport;
use crate::archive::devices::Device;
use crate::archive::forwarding::ForwardReport;
use crate::http::Service;
use crate::http::error::Error;

/// `GET /status`: the state of the server, and the figures of the caller's tenant.
pub(crate) async fn status(
    State(service): State<Arc<Service>>,
    caller: Caller,
) -> Result<impl IntoResponse, Error> {
    let archive = &service.archive;
    let disk = archive.disk_space().await;
    let dimse = service.dimse.as_ref();
    let body = json!({
        "version": env!("CARGO_PKG_VERSION"),
        "uptime_seconds": service.started.elapsed().as_secs(),
        "can_store": archive.health().is_ok(),
        "tenant": caller.tenant.as_str(),
        "studies": archive.count_studies(&caller).await?,
        "previews_waiting": archive.count_waiting_previews(&caller).await?,
        "disk": disk.map(|space| json!({ "total_bytes": space.total, "free_bytes": space.free })),
        "max_instance_bytes": service.max_instance_bytes,
        "dimse": dimse.map(|(title, port)| json!({ "ae_title": title, "port": port })),
        "forwarding": archive.forwarding(&caller).await?.iter().map(forwarding).collect::<Vec<_>>(),
        "commitments": archive.commitment_reports(&caller).await?.iter().map(commitment).collect::<Vec<_>>(),
        "devices": archive.devices(&caller).iter().map(device).collect::<Vec<_>>(),
    });
    Ok(([(CONTENT_TYPE, "application/json"), (CACHE_CONTROL, "no-store")], body.to_string()))
}

/// The progress of forwarding to a destination.
fn forwarding(report: &ForwardReport) -> Value {
    let ForwardReport { destination, state, failures } = report;
    let failures = failures.iter().map(|failed| {
        json!({
            "study": failed.study.as_str(),
            "series": failed.series.as_str(),
            "instance": failed.instance.as_str(),
            "failed_ms": failed.at,
            "error": failed.error,
        })
    });
    json!({
        "destination": destination,
        "waiting": state.waiting,
        "waiting_since_ms": state.waiting_since,
        "sent": state.sent,
        "last_sent_ms": state.sent_at,
        "failed": state.failed,
        "last_error": state.error.as_ref().map(|(error, _)| error),
        "last_error_ms": state.error.as_ref().map(|(_, at)| at),
        "failures": failures.collect::<Vec<_>>(),
    })
}

/// The state of storage commitment for a peer.
fn commitment(report: &CommitmentReport) -> Value {
    let CommitmentReport { peer, waiting, waiting_since, state } = report;
    json!({
        "peer": peer,
        "waiting": waiting,
        "waiting_since_ms": waiting_since,
        "reported": state.reported,
        "last_reported_ms": state.reported_at,
        "given_up": state.given_up,
        "last_given_up_ms": state.given_up_at,
        "last_error": state.error.as_ref().map(|(error, _)| error),
        "last_error_ms": state.error.as_ref().map(|(_, at)| at),
    })
}

fn device(device: &Device) -> Value {
    let Device { name, last_received, instances } = device;
    json!({ "name": name, "last_received_ms": last_received, "instances": instances })
}
