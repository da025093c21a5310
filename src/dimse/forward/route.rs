//! The rules of forwarding by destination, and the instances that match them.

use std::time::Duration;

use anyhow::Context;

use crate::archive::access::Caller;
use crate::archive::records::InstanceRecord;
use crate::clock::millis;
use crate::config::{Config, ForwardRule, PeerAddress, StorePriority};
use crate::dicom::attributes::{Attribute, Tag};
use crate::dicom::tags;
use crate::query::text::{Pattern, fold};

/// The subject of forwarding in the audit log.
const SUBJECT: &str = "forward.rules";
const SECONDS_OF_HOUR: u64 = 60 * 60;

/// The way of a tenant's instances to a destination.
pub(super) struct ForwardRoute {
    /// The server, for work on the tenant's instances.
    pub(super) caller: Caller,
    /// The AE title of the destination.
    pub(super) title: String,
    /// The address of the destination.
    pub(super) address: PeerAddress,
    /// The time in which attempts to send an instance are made, in milliseconds.
    pub(super) retry_millis: i64,
    rules: Vec<RouteRule>,
}

/// A rule of a route.
struct RouteRule {
    modalities: Vec<String>,
    calling: Option<String>,
    description: Option<Pattern>,
    sop_classes: Vec<String>,
    priority: StorePriority,
}

/// The routes of the settings.
///
/// # Errors
/// A rule that cannot be used.
pub(super) fn routes(config: &Config) -> anyhow::Result<Vec<ForwardRoute>> {
    let retry_seconds = config.forward.retry_hours.saturating_mul(SECONDS_OF_HOUR);
    let retry_millis = millis(Duration::from_secs(retry_seconds));
    let mut routes: Vec<ForwardRoute> = Vec::new();
    for rule in &config.forward.rules {
        // The settings were validated.
        let (Some(tenant), Some(address)) = (rule.tenant(config), rule.address(config)) else { continue };
        let matching = RouteRule::of(rule)?;
        let is_same =
            |route: &&mut ForwardRoute| route.title == rule.destination && route.caller.tenant == tenant;
        if let Some(route) = routes.iter_mut().find(is_same) {
            route.rules.push(matching);
            continue;
        }
        routes.push(ForwardRoute {
            caller: Caller { subject: SUBJECT.into(), ..Caller::server(tenant) },
            title: rule.destination.clone(),
            address: address.clone(),
            retry_millis,
            rules: vec![matching],
        });
    }
    Ok(routes)
}

impl ForwardRoute {
    /// The priority with which an instance is sent, by the first rule that matches; `None` if none does, or
    /// if the destination itself has sent the instance.
    pub(super) fn choose(&self, record: &InstanceRecord) -> Option<StorePriority> {
        if record.source.as_ref() == Some(&self.title) {
            return None;
        }
        self.rules.iter().find(|rule| rule.matches(record)).map(|rule| rule.priority)
    }
}

impl RouteRule {
    fn of(rule: &ForwardRule) -> anyhow::Result<Self> {
        let pattern = |text: &String| {
            let pattern = Pattern::new(fold(text));
            pattern.with_context(|| {
                format!("`description={text}` in forward.rules has `?` among too many characters")
            })
        };
        Ok(Self {
            modalities: rule.modalities.clone(),
            calling: rule.calling.clone(),
            description: rule.description.as_ref().map(pattern).transpose()?,
            sop_classes: rule.sop_classes.clone(),
            priority: rule.priority,
        })
    }

    fn matches(&self, record: &InstanceRecord) -> bool {
        let text =
            |tag: Tag| record.attributes.get(&tag).and_then(Attribute::first_text).unwrap_or("").trim();
        let is_one = |list: &[String], value: &str| list.is_empty() || list.iter().any(|one| one == value);
        // The sender of an instance that was recovered after a kill is not known. It is sent: the sender may
        // send it again, but it is stored already then, which is no change.
        let is_from = |title: &String| record.source.as_ref().is_none_or(|source| source == title);
        is_one(&self.modalities, text(tags::MODALITY))
            && is_one(&self.sop_classes, &record.sop_class)
            && self.calling.as_ref().is_none_or(is_from)
            && self
                .description
                .as_ref()
                .is_none_or(|pattern| pattern.matches(&fold(text(tags::STUDY_DESCRIPTION))))
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::archive::{Archive, testing};
    use crate::blobs::memory::MemoryBlobs;
    use crate::dicom::build::DataSet;
    use crate::dicom::uids;
    use crate::index::Index;

    async fn record() -> InstanceRecord {
        let config = Config::load(None, &[]).unwrap();
        let archive = Archive::new(Arc::new(MemoryBlobs::new()), Arc::new(Index::in_memory()), &config);
        let set = DataSet::explicit()
            .text(0x0008_0016, "UI", uids::CT_IMAGE_STORAGE)
            .text(0x0008_0018, "UI", "1.2.3.4")
            .text(0x0008_0060, "CS", "CT")
            .text(0x0008_1030, "LO", "Knee Implant left")
            .text(0x0020_000D, "UI", "1.2")
            .text(0x0020_000E, "UI", "1.2.3");
        testing::store(&archive, set).await.unwrap();
        let (study, series, instance) = ("1.2", "1.2.3", "1.2.3.4");
        let (study, series) = (study.parse().unwrap(), series.parse().unwrap());
        archive.instance(&Caller::anonymous(), &study, &series, &instance.parse().unwrap()).await.unwrap()
    }

    fn route(rules: &str) -> ForwardRoute {
        let set =
            |section: &str, name: &str, text: &str| (section.to_owned(), name.to_owned(), text.to_owned());
        let settings = [set("dimse", "peers", "A@h:1="), set("forward", "rules", rules)];
        let config = Config::load(None, &settings).unwrap();
        let mut routes = routes(&config).unwrap();
        assert_eq!(routes.len(), 1, "one destination is one route");
        routes.remove(0)
    }

    #[tokio::test]
    async fn an_instance_matches_all_keys_of_one_rule() {
        let record = record().await;
        assert_eq!(record.source.as_deref(), Some(""), "sent by HTTP");
        let known = InstanceRecord { source: Some("PAX 1".into()), ..record.clone() };
        let unknown = InstanceRecord { source: None, ..record.clone() };
        let returned = InstanceRecord { source: Some("A".into()), ..record.clone() };
        for (rules, expected) in [
            ("-> A", [true, true, true]),
            ("modality=CT -> A", [true, true, true]),
            ("modality=MR+CT -> A", [true, true, true]),
            ("modality=MR -> A", [false, false, false]),
            ("modality=MR -> A, modality=CT -> A", [true, true, true]),
            ("sop_class=1.2.840.10008.5.1.4.1.1.2 -> A", [true, true, true]),
            ("sop_class=1.2.840.10008.5.1.4.1.1.4 -> A", [false, false, false]),
            ("description=*implant* -> A", [true, true, true]),
            ("description=knee implant lef? -> A", [true, true, true]),
            ("description=implant -> A", [false, false, false]),
            ("calling=PAX 1 -> A", [false, true, true]),
            ("calling=PAX 2 -> A", [false, false, true]),
            ("calling=PAX 1 modality=MR -> A", [false, false, false]),
        ] {
            let route = route(rules);
            let found = [&record, &known, &unknown].map(|record| route.choose(record).is_some());
            assert_eq!(found, expected, "{rules}");
            assert_eq!(route.choose(&returned), None, "{rules}: to its sender");
        }
        let route = route("modality=CT priority=low -> A, priority=high -> A");
        assert_eq!(route.choose(&record), Some(StorePriority::Low), "the first rule that matches");
    }
}
