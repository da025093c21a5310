//! The keys of all rows of the index. The key of a partition starts with the tenant.
//!
//! | row | partition | sort key | secondary keys |
//! |---|---|---|---|
//! | tenant | `TENANTS` | tenant | |
//! | number of studies of a day | `T#{tenant}#DAYS` | `{date}#` | |
//! | study | `T#{tenant}#S#{study}` | `STUDY` | by date, patient, name, accession number, hour of arrival |
//! | series | `T#{tenant}#S#{study}` | `SERIES#{series}` | by its UID; when its preview is due |
//! | instance | `T#{tenant}#S#{study}#{series}` | `I#{instance}` | |
//! | location of an instance | `T#{tenant}#U#{instance}` | `UID` | |
//! | part of a separate record of an instance | `T#{tenant}#U#{instance}` | `R#{object}#{number}` | |
//! | continuation of an instance | `T#{tenant}#C#{study}#{series}#{instance}` | `{object}#{number}` | |
//! | feed of changes | `T#{tenant}#FEED` | `FEED` | |
//! | end of the changes of a lane that were swept | `T#{tenant}#FEED` | `SWEPT#{lane}` | |
//! | entry of a feed | `T#{tenant}#FEED#{lane}` | `{number}` | |
//! | amount that is stored, and mark in the feed | `T#{tenant}#USAGE` | `HEAD` | |
//! | turnover of a day | `T#{tenant}#USAGE` | `DAY#{date}` | |
//! | traffic of a day, of one process | `T#{tenant}#USAGE` | `TRAFFIC#{date}#{process}` | |
//! | share | `T#{tenant}#SHARES` | `{id}` | |
//! | link of a share | `LINK#{digest of its secret}` | `T#{tenant}#{id}` | |
//! | key that signs URLs in a period | `T#{tenant}#KEYS` | `{period}` | |
//! | progress of forwarding to a destination | `T#{tenant}#FORWARD` | `{AE title}` |
//! | instance that is forwarded later | `T#{tenant}#FORWARD#{AE title}` | `LATER#{instance}` |
//! | instance that could not be forwarded | `T#{tenant}#FORWARD#{AE title}` | `FAILED#{time}#{instance}` |
//! | request for storage commitment whose report waits | `COMMITMENTS` | `{tenant}#{AE title, 16 characters}#{digest of the Transaction UID}` |
//! | part of the references of a request | `T#{tenant}#COMMITMENT#{name}` | `{number}` |
//! | state of the reports to a peer | `T#{tenant}#REPORTS` | `{AE title, 16 characters}` |
//! | entry of the deletion queue | `DELETION_QUEUE` | `{tenant}#{study}#{id}` | |
//! | mark of an index being rebuilt | `REBUILDING` | `REBUILDING` | |
//! | mark of an index in use | `IN_USE` | `IN_USE` | |
//! | secret of a tenant for de-identified copies | `T#{tenant}#SECRETS` | `PSEUDONYMS` | |
//! | state of the scrub | `SCRUB` | `SCRUB` | |
//! | probe of a process | `PROBE` | a random name | |
//!
//! The items of the audit log are beside them: see `src/audit/keys.rs`.

use crate::dicom::attributes::{Attribute, Tag, Value};
use crate::dicom::tags;
use crate::dicom::uid::{InstanceUid, SeriesUid, StudyUid};
use crate::index::DeletionEntry;
use crate::index::feed_position::FeedPosition;
use crate::index::records::{PreviewState, SeriesRecord, StudyRecord};
use crate::query::temporal::{normal_date, normal_time};
use crate::query::text::fold;
use crate::table::{ItemKey, Secondary, SecondaryKey};

/// The partition of the rows that name the tenants.
pub(crate) const TENANTS: &str = "TENANTS";
/// The partition of the deletion queue of all tenants.
pub(crate) const DELETION_QUEUE: &str = "DELETION_QUEUE";
/// The partition of the requests for storage commitment of all tenants' peers whose report waits.
pub(crate) const WAITING_COMMITMENTS: &str = "COMMITMENTS";
/// The partition, in [`Secondary::Fifth`], of all tenants' series with a pending preview.
pub(crate) const PREVIEWS: &str = "PREVIEWS";
/// The partition and the sort key of the row that marks an index being rebuilt.
const REBUILDING: &str = "REBUILDING";
/// The partition and the sort key of the row that marks an index in use.
const IN_USE: &str = "IN_USE";
/// The prefix of the sort keys of series.
pub(crate) const SERIES_PREFIX: &str = "SERIES#";
/// The prefix of the sort keys of instances.
pub(crate) const INSTANCE_PREFIX: &str = "I#";
/// The prefix of the sort keys of the parts of separate records.
const PART_PREFIX: &str = "R#";
/// The prefix of the sort keys of the turnover of days.
pub(crate) const TURNOVER_PREFIX: &str = "DAY#";
/// The prefix of the sort keys of traffic.
pub(crate) const TRAFFIC_PREFIX: &str = "TRAFFIC#";
/// The prefix of the sort keys of the ends of what was swept from a feed.
const SWEPT_PREFIX: &str = "SWEPT#";
/// The prefix of the sort keys of instances that are forwarded later.
pub(crate) const FORWARDED_LATER_PREFIX: &str = "LATER#";
/// The prefix of the sort keys of instances that could not be forwarded.
pub(crate) const NOT_FORWARDED_PREFIX: &str = "FAILED#";
const MILLIS_PER_HOUR: i64 = 60 * 60 * 1000;
/// The maximum number of characters of a value in a key; tables limit the length of keys.
const MAX_KEY_CHARS: usize = 64;

/// The row that names a tenant.
pub(crate) fn tenant(tenant: &str) -> ItemKey {
    ItemKey { partition: TENANTS.into(), sort: tenant.into() }
}

/// The partition of the rows of a study and its series.
pub(crate) fn study_partition(tenant: &str, study: &StudyUid) -> String {
    format!("T#{tenant}#S#{study}")
}

/// The row of a study.
pub(crate) fn study(tenant: &str, study: &StudyUid) -> ItemKey {
    ItemKey { partition: study_partition(tenant, study), sort: "STUDY".into() }
}

/// The row of a series.
pub(crate) fn series(tenant: &str, study: &StudyUid, series: &SeriesUid) -> ItemKey {
    ItemKey { partition: study_partition(tenant, study), sort: format!("{SERIES_PREFIX}{series}") }
}

/// The partition of the rows of a series' instances.
pub(crate) fn instance_partition(tenant: &str, study: &StudyUid, series: &SeriesUid) -> String {
    format!("T#{tenant}#S#{study}#{series}")
}

/// The row of an instance.
pub(crate) fn instance(
    tenant: &str,
    study: &StudyUid,
    series: &SeriesUid,
    instance: &InstanceUid,
) -> ItemKey {
    let partition = instance_partition(tenant, study, series);
    ItemKey { partition, sort: format!("{INSTANCE_PREFIX}{instance}") }
}

/// The UID of the instance of a row.
pub(crate) fn instance_of(key: &ItemKey) -> Option<InstanceUid> {
    key.sort.strip_prefix(INSTANCE_PREFIX)?.parse().ok()
}

/// The row with the location of an instance.
pub(crate) fn location(tenant: &str, instance: &InstanceUid) -> ItemKey {
    ItemKey { partition: format!("T#{tenant}#U#{instance}"), sort: "UID".into() }
}

/// The row of part `number` (from 1) of an instance's separate record, in the partition of the location.
/// `instance` is the key of the instance's row; `object` is the name of the stored object.
pub(crate) fn record_part(instance: &ItemKey, object: &str, number: usize) -> ItemKey {
    let tenant = instance.partition.split_once("#S#").map_or("", |(tenant, _)| tenant);
    let uid = instance.sort.strip_prefix(INSTANCE_PREFIX).unwrap_or(&instance.sort);
    ItemKey { partition: format!("{tenant}#U#{uid}"), sort: record_part_sort(object, number) }
}

/// The sort key of [`record_part`].
pub(crate) fn record_part_sort(object: &str, number: usize) -> String {
    format!("{PART_PREFIX}{object}#{number:04}")
}

/// The continuation row `number` (from 1) of an instance's record. `object` is the name of the stored object.
pub(crate) fn continuation(instance: &ItemKey, object: &str, number: usize) -> ItemKey {
    let partition = format!("{}#{}", instance.partition.replacen("#S#", "#C#", 1), instance.sort);
    ItemKey { partition, sort: format!("{object}#{number:04}") }
}

/// The partition of the row of a tenant's feed of changes, and of the marks of its lanes.
pub(crate) fn feed_partition(tenant: &str) -> String {
    format!("T#{tenant}#FEED")
}

/// The row of a tenant's feed of changes.
pub(crate) fn feed(tenant: &str) -> ItemKey {
    ItemKey { partition: feed_partition(tenant), sort: "FEED".into() }
}

/// The row with the last number of a lane of a feed that was swept.
pub(crate) fn feed_swept(tenant: &str, lane: u32) -> ItemKey {
    ItemKey { partition: feed_partition(tenant), sort: format!("{SWEPT_PREFIX}{lane}") }
}

/// The lane of a row with the end of what was swept.
pub(crate) fn swept_lane(sort: &str) -> Option<u32> {
    sort.strip_prefix(SWEPT_PREFIX)?.parse().ok()
}

/// The partition of the entries of a lane of a feed.
pub(crate) fn feed_lane(tenant: &str, lane: u32) -> String {
    format!("T#{tenant}#FEED#{lane}")
}

/// The row of an entry of a feed.
pub(crate) fn feed_entry(tenant: &str, position: FeedPosition) -> ItemKey {
    let FeedPosition(lane, number) = position;
    ItemKey { partition: feed_lane(tenant, lane), sort: feed_sort(number) }
}

/// The sort key of an entry of a feed.
pub(crate) fn feed_sort(number: u64) -> String {
    format!("{number:020}")
}

/// The number of an entry of a feed, from its sort key.
pub(crate) fn feed_number(sort: &str) -> Option<u64> {
    sort.parse().ok()
}

/// The partition of a tenant's usage.
pub(crate) fn usage(tenant: &str) -> String {
    format!("T#{tenant}#USAGE")
}

/// The row with the amount that a tenant has stored.
pub(crate) fn usage_head(tenant: &str) -> ItemKey {
    ItemKey { partition: usage(tenant), sort: "HEAD".into() }
}

/// The row with the turnover of a day.
pub(crate) fn turnover(tenant: &str, date: &str) -> ItemKey {
    ItemKey { partition: usage(tenant), sort: format!("{TURNOVER_PREFIX}{date}") }
}

/// The row with the traffic of a day, as far as one process has it.
pub(crate) fn traffic(tenant: &str, date: &str, process: &str) -> ItemKey {
    ItemKey { partition: usage(tenant), sort: format!("{TRAFFIC_PREFIX}{date}#{process}") }
}

/// The partition of a tenant's shares.
pub(crate) fn shares(tenant: &str) -> String {
    format!("T#{tenant}#SHARES")
}

/// The row of a share.
pub(crate) fn share(tenant: &str, id: &str) -> ItemKey {
    ItemKey { partition: shares(tenant), sort: id.into() }
}

/// The partition of the link with this digest of its secret. A link names no tenant: it is found first.
pub(crate) fn share_links(digest: &str) -> String {
    format!("LINK#{digest}")
}

/// The row of the link of a share.
pub(crate) fn share_link(digest: &str, tenant: &str, id: &str) -> ItemKey {
    ItemKey { partition: share_links(digest), sort: format!("T#{tenant}#{id}") }
}

/// The tenant and the identifier of the share in the sort key of a link.
pub(crate) fn share_of_link(sort: &str) -> Option<(String, String)> {
    let (tenant, id) = sort.strip_prefix("T#")?.split_once('#')?;
    Some((tenant.to_owned(), id.to_owned()))
}

/// The partition of the keys that sign a tenant's URLs.
pub(crate) fn signing_keys(tenant: &str) -> String {
    format!("T#{tenant}#KEYS")
}

/// The row of the key that signs a tenant's URLs in a period.
pub(crate) fn signing_key(tenant: &str, period: i64) -> ItemKey {
    ItemKey { partition: signing_keys(tenant), sort: format!("{period:012}") }
}

/// The partition of the states of a tenant's webhooks.
pub(crate) fn webhooks(tenant: &str) -> String {
    format!("T#{tenant}#WEBHOOKS")
}

/// The row of the state of a webhook.
pub(crate) fn webhook(tenant: &str, id: &str) -> ItemKey {
    ItemKey { partition: webhooks(tenant), sort: id.into() }
}

/// The partition of the deliveries to a tenant's webhooks that were given up.
pub(crate) fn webhook_failures(tenant: &str) -> String {
    format!("T#{tenant}#WEBHOOK-FAILURES")
}

/// The row of a delivery that was given up, by its time.
pub(crate) fn webhook_failure(tenant: &str, given_up_at: i64, id: &str) -> ItemKey {
    ItemKey { partition: webhook_failures(tenant), sort: format!("{given_up_at:015}#{id}") }
}

/// The partition of the progress of forwarding a tenant's instances.
pub(crate) fn forwarding(tenant: &str) -> String {
    format!("T#{tenant}#FORWARD")
}

/// The row with the progress of forwarding to a destination.
pub(crate) fn forwarding_to(tenant: &str, title: &str) -> ItemKey {
    ItemKey { partition: forwarding(tenant), sort: title.into() }
}

/// The partition of the instances that are forwarded to a destination later, or could not be.
pub(crate) fn forwarded(tenant: &str, title: &str) -> String {
    format!("T#{tenant}#FORWARD#{title}")
}

/// The row of an instance that is forwarded later.
pub(crate) fn forwarded_later(tenant: &str, title: &str, instance: &InstanceUid) -> ItemKey {
    let partition = forwarded(tenant, title);
    ItemKey { partition, sort: format!("{FORWARDED_LATER_PREFIX}{instance}") }
}

/// The row of an instance that could not be forwarded, since a time in milliseconds since 1970.
pub(crate) fn not_forwarded(tenant: &str, title: &str, at: i64, instance: &InstanceUid) -> ItemKey {
    let partition = forwarded(tenant, title);
    ItemKey { partition, sort: format!("{NOT_FORWARDED_PREFIX}{}#{instance}", due(at)) }
}

/// The prefix of the sort keys of the requests for storage commitment of a tenant's peers.
pub(crate) fn waiting_commitments_of_tenant(tenant: &str) -> String {
    format!("{tenant}#")
}

/// The prefix of the sort keys of the requests for storage commitment of a peer. Titles have 16 characters
/// there, so that no title is the beginning of another.
pub(crate) fn waiting_commitments_of(tenant: &str, title: &str) -> String {
    format!("{tenant}#{}#", padded(title))
}

/// An AE title, with spaces up to its 16 characters. A peer may have an empty one.
fn padded(title: &str) -> String {
    format!("{:<16}", key_text(title))
}

/// The row of a request for storage commitment whose report waits.
pub(crate) fn waiting_commitment(tenant: &str, title: &str, transaction: &str) -> ItemKey {
    let digest = blake3::hash(transaction.as_bytes()).to_hex();
    let sort = format!("{}{digest}", waiting_commitments_of(tenant, title));
    ItemKey { partition: WAITING_COMMITMENTS.into(), sort }
}

/// The row of part `number` (from 0) of the references of a request for storage commitment.
pub(crate) fn commitment_part(tenant: &str, name: &str, number: usize) -> ItemKey {
    ItemKey { partition: format!("T#{tenant}#COMMITMENT#{name}"), sort: format!("{number:04}") }
}

/// The partition of the states of the reports to a tenant's peers.
pub(crate) fn report_states(tenant: &str) -> String {
    format!("T#{tenant}#REPORTS")
}

/// The row with the state of the reports to a peer.
pub(crate) fn report_state(tenant: &str, title: &str) -> ItemKey {
    ItemKey { partition: report_states(tenant), sort: padded(title) }
}

/// The row of an entry of the deletion queue.
pub(crate) fn deletion_entry(entry: &DeletionEntry) -> ItemKey {
    let DeletionEntry { id, tenant, study, .. } = entry;
    ItemKey { partition: DELETION_QUEUE.into(), sort: format!("{tenant}#{study}#{id}") }
}

/// The row that marks an index being rebuilt.
pub(crate) fn rebuilding() -> ItemKey {
    ItemKey { partition: REBUILDING.into(), sort: REBUILDING.into() }
}

/// The row with the secret of a tenant for de-identified copies.
pub(crate) fn pseudonym_secret(tenant: &str) -> ItemKey {
    ItemKey { partition: format!("T#{tenant}#SECRETS"), sort: "PSEUDONYMS".into() }
}

/// The row with the state of the scrub.
pub(crate) fn scrub() -> ItemKey {
    ItemKey { partition: "SCRUB".into(), sort: "SCRUB".into() }
}

/// A row that is written and deleted to find out whether the table takes transactions.
pub(crate) fn probe(name: &str) -> ItemKey {
    ItemKey { partition: "PROBE".into(), sort: name.into() }
}

/// The row that marks an index in use.
pub(crate) fn in_use() -> ItemKey {
    ItemKey { partition: IN_USE.into(), sort: IN_USE.into() }
}

/// The partition, in [`Secondary::First`], of all studies in the default order of results.
pub(crate) fn studies(tenant: &str) -> String {
    format!("T#{tenant}#STUDIES")
}

/// The partition, in [`Secondary::Fifth`], of studies by the hour in which their last instance arrived.
pub(crate) fn arrivals(tenant: &str) -> String {
    format!("T#{tenant}#ARRIVALS")
}

/// The start of the sort keys of studies that arrived in the hour of a time, in milliseconds since 1970. A
/// study gets another sort key once in an hour, however many instances arrive.
pub(crate) fn arrival_hour(at: i64) -> String {
    format!("{:010}", at.max(0) / MILLIS_PER_HOUR)
}

/// The partition of the counters of a tenant's studies by day.
pub(crate) fn days(tenant: &str) -> String {
    format!("T#{tenant}#DAYS")
}

/// The counter of the studies of a day (see [`day_of`]).
pub(crate) fn studies_on(tenant: &str, day: &str) -> ItemKey {
    ItemKey { partition: days(tenant), sort: day.into() }
}

/// The day of a study, from its place in the default order of results: the beginning with the date. Studies
/// of a day are between the day and the next in every range in that order.
pub(crate) fn day_of(order: &str) -> &str {
    order.find('#').and_then(|end| order.get(..=end)).unwrap_or(order)
}

/// The UID of a study, from its place in the default order of results.
pub(crate) fn study_of(order: &str) -> Option<StudyUid> {
    order.rsplit('#').next()?.parse().ok()
}

/// The partition, in [`Secondary::Second`], of the studies with a patient ID.
pub(crate) fn patient(tenant: &str, patient_id: &str) -> String {
    format!("T#{tenant}#P#{}", key_text(patient_id))
}

/// The partition, in [`Secondary::Second`], of studies with more than one patient ID. The standard forbids
/// several values, but other archives send them.
pub(crate) fn mixed_patients(tenant: &str) -> String {
    format!("T#{tenant}#PATIENTS")
}

/// The partition, in [`Secondary::Third`], of studies by the alphabetic group of the patient name.
pub(crate) fn names(tenant: &str) -> String {
    format!("T#{tenant}#NAMES")
}

/// The partition, in [`Secondary::Third`], of studies whose patient name may match an ASCII prefix in another
/// place than the alphabetic group of the first value. All of them are candidates of a search by name.
pub(crate) fn mixed_names(tenant: &str) -> String {
    format!("T#{tenant}#MIXED")
}

/// The partition, in [`Secondary::Fourth`], of the studies with an accession number.
pub(crate) fn accession(tenant: &str, number: &str) -> String {
    format!("T#{tenant}#A#{}", key_text(number))
}

/// The partition, in [`Secondary::Fourth`], of studies with more than one accession number.
pub(crate) fn mixed_accessions(tenant: &str) -> String {
    format!("T#{tenant}#ACCESSIONS")
}

/// The partition, in [`Secondary::Second`], of the series with a UID.
pub(crate) fn series_uid(tenant: &str, series: &SeriesUid) -> String {
    format!("T#{tenant}#R#{series}")
}

/// The place of a study in the default order of results, which descends: study date, time, UID. Studies
/// without date come last.
pub(crate) fn order(record: &StudyRecord) -> String {
    let text = |tag| record.attributes.get(&tag).and_then(Attribute::first_text).unwrap_or("");
    let date = normal_date(text(tags::STUDY_DATE)).unwrap_or_default();
    let time = normal_time(text(tags::STUDY_TIME)).unwrap_or_default();
    format!("{date}#{time}#{}", record.study)
}

/// The start of a sort key for a folded name.
pub(crate) fn name_prefix(folded: &str) -> String {
    key_text(folded)
}

/// The keys of a study in the secondary indexes. `listing` is its sort key in the list of all studies.
pub(crate) fn of_study(tenant: &str, record: &StudyRecord, listing: String) -> Vec<SecondaryKey> {
    let order = order(record);
    let mut keys = vec![SecondaryKey { index: Secondary::First, partition: studies(tenant), sort: listing }];
    if let Some(partition) = value_partition(record, tags::PATIENT_ID, tenant, patient, mixed_patients) {
        keys.push(SecondaryKey { index: Secondary::Second, partition, sort: order.clone() });
    }
    if let Some(name) = record.attributes.get(&tags::PATIENT_NAME).filter(|name| !name.values.is_empty()) {
        let partition = if is_mixed(name) { mixed_names(tenant) } else { names(tenant) };
        let folded = name_prefix(&fold(name.first_text().unwrap_or("").trim()));
        keys.push(SecondaryKey { index: Secondary::Third, partition, sort: format!("{folded}\u{1}{order}") });
    }
    if let Some(partition) =
        value_partition(record, tags::ACCESSION_NUMBER, tenant, accession, mixed_accessions)
    {
        keys.push(SecondaryKey { index: Secondary::Fourth, partition, sort: order.clone() });
    }
    if let Some(at) = record.arrived_at {
        let sort = format!("{}\u{1}{order}", arrival_hour(at));
        keys.push(SecondaryKey { index: Secondary::Fifth, partition: arrivals(tenant), sort });
    }
    keys
}

/// The partition of a study by the value of an attribute; `None` if the attribute has no value.
fn value_partition(
    record: &StudyRecord,
    tag: Tag,
    tenant: &str,
    of_one: impl FnOnce(&str, &str) -> String,
    of_several: impl FnOnce(&str) -> String,
) -> Option<String> {
    let attribute = record.attributes.get(&tag)?;
    if attribute.values.len() > 1 {
        return Some(of_several(tenant));
    }
    let value = attribute.first_text().map(str::trim).filter(|value| !value.is_empty())?;
    Some(of_one(tenant, value))
}

/// The keys of a series in the secondary indexes.
pub(crate) fn of_series(tenant: &str, record: &SeriesRecord) -> Vec<SecondaryKey> {
    let mut keys = vec![SecondaryKey {
        index: Secondary::Second,
        partition: series_uid(tenant, &record.series),
        sort: record.study.to_string(),
    }];
    if let PreviewState::Pending { due_at, .. } = record.preview {
        keys.push(SecondaryKey {
            index: Secondary::Fifth,
            partition: PREVIEWS.into(),
            sort: format!("{}#{tenant}#{}#{}", due(due_at), record.study, record.series),
        });
    }
    keys
}

/// The start of a sort key for a time in milliseconds since 1970.
pub(crate) fn due(at: i64) -> String {
    format!("{:020}", at.max(0))
}

/// Whether a name may match an ASCII prefix in another place than the alphabetic group of its first value.
fn is_mixed(name: &Attribute) -> bool {
    let starts_in_ascii =
        |group: &str| fold(group.trim()).chars().next().is_some_and(|first| first.is_ascii());
    match name.values.as_slice() {
        [Value::Name(name)] => starts_in_ascii(&name.ideographic) || starts_in_ascii(&name.phonetic),
        _ => true,
    }
}

/// Shortens a value for use in a key and drops control characters. Different values may give the same text,
/// so the rows found by the key must still be matched.
fn key_text(value: &str) -> String {
    value.chars().filter(|character| !character.is_control()).take(MAX_KEY_CHARS).collect()
}
