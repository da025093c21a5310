//! Changes as JSON, for the feed, for listeners and for webhooks (docs/changes.md).

use serde_json::{Value, json};

use crate::archive::changes::{Change, ChangeKind, FeedEntry};
use crate::clock::rfc3339;

/// A change of an entry. Clients do not get changes of kinds without an event.
pub fn change_json(entry: &FeedEntry, change: &Change) -> Value {
    let Change { kind, study, series, instances, .. } = change;
    let mut described = json!({
        "event": kind.event(),
        "time": rfc3339(entry.at),
        "study": study.as_str(),
        "series": series.as_str(),
    });
    if !instances.is_empty() {
        described["instances"] = instances.iter().map(|instance| instance.as_str()).collect();
    }
    match kind {
        ChangeKind::Preview => described["state"] = json!("ready"),
        ChangeKind::PreviewFailed => described["state"] = json!("failed"),
        _ => {}
    }
    if let Some(level) = change.gone() {
        described["gone"] = json!(level);
    }
    described
}
