//! Changes to the records of a study and its series: read, changed in memory, and written in one transaction.

use std::collections::BTreeMap;

use crate::clock;
use crate::dicom::attributes::{Attribute, Attributes, Value};
use crate::dicom::tags;
use crate::dicom::uid::{SeriesUid, StudyUid};
use crate::index::amounts::{Amount, DailyTurnover, Turnover};
use crate::index::changes::EntriesBefore;
use crate::index::feed_position::FeedPosition;
use crate::index::records::{InstanceRecord, PreviewState, SeriesRecord, StudyRecord};
use crate::index::{Error, counts, keys, listing, rows};
use crate::query::Level;
use crate::query::indexed_attributes;
use crate::table::{Expect, Item, ItemKey, SecondaryKey, Write};

/// The maximum bytes of an attribute in the record of a study or series, which must fit in one row. Larger
/// attributes are left out; no value that a search could use is longer. The records of instances have them.
const MAX_ATTRIBUTE_BYTES: usize = 4096;
/// The maximum number of different modalities or SOP classes that a record counts.
const MAX_COUNTED: usize = 500;
/// The maximum bytes of a modality or SOP class that a record counts.
const MAX_COUNTED_BYTES: usize = 64;

/// A study and the series of it that a transaction changes.
pub(crate) struct StudyUpdate {
    tenant: String,
    now: i64,
    study: VersionedRecord<StudyRecord>,
    /// The day of the study before the update; `None` if it did not exist.
    day: Option<String>,
    series: BTreeMap<SeriesUid, VersionedRecord<SeriesRecord>>,
    turnover: DailyTurnover,
}

/// A record and the version of the row that it was read from.
struct VersionedRecord<R> {
    /// The version of the row; `None` if there is no such row.
    version: Option<u64>,
    record: Option<R>,
    is_changed: bool,
}

impl<R: for<'a> serde::Deserialize<'a>> VersionedRecord<R> {
    fn read(item: Option<Item>) -> Result<Self, Error> {
        let Some(item) = item else { return Ok(Self { version: None, record: None, is_changed: false }) };
        let record = rows::decode(&item.key, &item.body)?;
        Ok(Self { version: Some(item.version), record: Some(record), is_changed: false })
    }

    fn expect(&self) -> Expect {
        self.version.map_or(Expect::Absent, Expect::Version)
    }

    /// The version of the next write. A row with the same key that was deleted before never had this version.
    fn next_version(&self, now: i64) -> u64 {
        self.version.map_or(from_clock(now), |version| version + 1)
    }
}

/// The first generation or version of a record. It is from the clock, so that a study that is deleted and
/// stored again does not repeat earlier ones.
fn from_clock(now: i64) -> u64 {
    u64::try_from(now).unwrap_or(0)
}

impl StudyUpdate {
    /// Begins an update with the rows of the study and of the series to change.
    pub(crate) fn new(
        tenant: &str,
        now: i64,
        study: Option<Item>,
        series: impl IntoIterator<Item = (SeriesUid, Option<Item>)>,
    ) -> Result<Self, Error> {
        let mut rows = BTreeMap::new();
        for (uid, item) in series {
            rows.insert(uid, VersionedRecord::read(item)?);
        }
        let study: VersionedRecord<StudyRecord> = VersionedRecord::read(study)?;
        let day = study.record.as_ref().map(day);
        let turnover = DailyTurnover::new();
        Ok(Self { tenant: tenant.to_owned(), now, study, day, series: rows, turnover })
    }

    /// Adds an instance to the records. `preview_due` is the time from which the preview of the series may be
    /// made, if the instance has pixel data; `None` if no preview is wanted.
    pub(crate) fn add(&mut self, instance: &InstanceRecord, preview_due: Option<i64>, is_replacing: bool) {
        let now = self.now;
        self.study.is_changed = true;
        let studies = u64::from(self.study.record.is_none());
        let amount = Amount { studies, ..amount_of(instance) };
        self.turnover_of(instance.stored_at).stored.add(amount);
        let study = self.study.record.get_or_insert_with(|| empty_study(&instance.study, now));
        let row = self.series.entry(instance.series.clone()).or_insert(VersionedRecord {
            version: None,
            record: None,
            is_changed: false,
        });
        row.is_changed = true;
        if row.record.is_none() {
            study.number_of_series += 1;
        }
        let series = row.record.get_or_insert_with(|| empty_series(instance, now));
        merge(&mut study.attributes, instance, Level::Study, is_replacing);
        merge(&mut series.attributes, instance, Level::Series, is_replacing);
        if let Some(modality) = modality(instance) {
            add_one(&mut study.modalities, modality);
        }
        add_one(&mut study.sop_classes, &instance.sop_class);
        add_one(&mut series.sop_classes, &instance.sop_class);
        study.number_of_instances += 1;
        series.number_of_instances += 1;
        study.size_bytes += instance.size_bytes;
        study.arrived_at = study.arrived_at.max(Some(instance.stored_at));
        series.size_bytes += instance.size_bytes;
        if instance.layout.pixels.is_some() {
            series.number_of_images += 1;
            // An existing preview does not show this instance.
            series.preview = match (preview_due, &series.preview) {
                (None, _) => PreviewState::None,
                // The lease postpones a pending preview. Postponing it here would make each commit write to
                // the one partition of all pending previews.
                (Some(later), PreviewState::Pending { due_at, .. }) => {
                    PreviewState::Pending { due_at: later.min(*due_at), attempts: 0 }
                }
                (Some(due_at), _) => PreviewState::Pending { due_at, attempts: 0 },
            };
        }
    }

    /// Subtracts an instance from the records.
    pub(crate) fn subtract(&mut self, instance: &InstanceRecord) {
        self.study.is_changed = true;
        self.turnover_of(self.now).deleted.add(amount_of(instance));
        if let Some(study) = &mut self.study.record {
            if let Some(modality) = modality(instance) {
                subtract_one(&mut study.modalities, modality);
            }
            subtract_one(&mut study.sop_classes, &instance.sop_class);
            study.number_of_instances = study.number_of_instances.saturating_sub(1);
            study.size_bytes = study.size_bytes.saturating_sub(instance.size_bytes);
        }
        let Some(row) = self.series.get_mut(&instance.series) else { return };
        row.is_changed = true;
        if let Some(series) = &mut row.record {
            subtract_one(&mut series.sop_classes, &instance.sop_class);
            series.number_of_instances = series.number_of_instances.saturating_sub(1);
            series.size_bytes = series.size_bytes.saturating_sub(instance.size_bytes);
            if instance.layout.pixels.is_some() {
                series.number_of_images = series.number_of_images.saturating_sub(1);
                series.preview = preview_after_removal(series, self.now);
            }
        }
    }

    /// The entries of the feed with the last changes of the records.
    pub(crate) fn entries_before(&self) -> EntriesBefore {
        let of_series = self.series.values().filter_map(|row| row.record.as_ref()?.change);
        let of_study = self.study.record.iter().filter_map(|study| study.change);
        let is_new_study = self.study.version.is_none();
        EntriesBefore { follows: of_study.chain(of_series).collect(), is_new_study }
    }

    /// The turnover of the day of a time.
    fn turnover_of(&mut self, at: i64) -> &mut Turnover {
        self.turnover.entry(clock::date(at)).or_default()
    }

    /// The amounts that are stored, by the days on which the instances were stored, and those that are now
    /// deleted.
    pub(crate) fn take_turnover(&mut self) -> DailyTurnover {
        let is_gone = self.study.record.as_ref().is_some_and(|study| study.number_of_instances == 0);
        if is_gone && self.study.is_changed {
            self.turnover_of(self.now).deleted.studies += 1;
        }
        std::mem::take(&mut self.turnover)
    }

    /// The level that has no instance any more with the last of a series: the study or the series.
    pub(crate) fn emptied(&self, series: &SeriesUid) -> Option<Level> {
        if self.study.record.as_ref().is_some_and(|study| study.number_of_instances == 0) {
            return Some(Level::Study);
        }
        let row = self.series.get(series)?.record.as_ref()?;
        (row.number_of_instances == 0).then_some(Level::Series)
    }

    /// Sets the entry of the feed that has the changes.
    pub(crate) fn set_change(&mut self, position: FeedPosition) {
        for row in self.series.values_mut().filter(|row| row.is_changed) {
            row.record.iter_mut().for_each(|series| series.change = Some(position));
        }
        if self.study.is_changed {
            self.study.record.iter_mut().for_each(|study| study.change = Some(position));
        }
    }

    /// The writes of the changed records, and of the counters of days: none if nothing changed. Empty series
    /// and studies are deleted.
    pub(crate) fn into_writes(mut self) -> Result<Vec<Write>, Error> {
        let (tenant, now) = (self.tenant.as_str(), self.now);
        let mut writes = Vec::new();
        for row in self.series.values_mut().filter(|row| row.is_changed) {
            let (expect, version) = (row.expect(), row.next_version(now));
            let Some(series) = &mut row.record else { continue };
            let key = keys::series(tenant, &series.study, &series.series);
            if series.number_of_instances == 0 {
                if let Some(study) = &mut self.study.record {
                    study.number_of_series = study.number_of_series.saturating_sub(1);
                }
                writes.push(Write::Delete(key, expect));
                continue;
            }
            series.generation += 1;
            series.changed_at = now;
            let secondary = keys::of_series(tenant, series);
            writes.push(put(key, version, secondary, series, expect)?);
        }
        if self.study.is_changed {
            let (expect, version) = (self.study.expect(), self.study.next_version(now));
            if let Some(study) = &mut self.study.record {
                let key = keys::study(tenant, &study.study);
                study.generation += 1;
                study.changed_at = now;
                writes.push(match study.number_of_instances {
                    0 => Write::Delete(key, expect),
                    _ => {
                        let secondary = keys::of_study(tenant, study, listing::sort_key(study));
                        put(key, version, secondary, study, expect)?
                    }
                });
                let after = (study.number_of_instances > 0).then(|| day(study));
                writes.extend(counts::writes(tenant, self.day.as_deref(), after.as_deref()));
            }
        }
        Ok(writes)
    }
}

fn amount_of(instance: &InstanceRecord) -> Amount {
    Amount { studies: 0, instances: 1, bytes: instance.size_bytes }
}

/// The day by which a study is counted.
fn day(study: &StudyRecord) -> String {
    keys::day_of(&keys::order(study)).to_owned()
}

/// The write of a record's row.
fn put<R: serde::Serialize>(
    key: ItemKey,
    version: u64,
    secondary: Vec<SecondaryKey>,
    record: &R,
    expect: Expect,
) -> Result<Write, Error> {
    let body = rows::encode(&key, record)?;
    Ok(Write::Put(Item { key, version, secondary, body }, expect))
}

fn empty_study(study: &StudyUid, now: i64) -> StudyRecord {
    StudyRecord {
        study: study.clone(),
        attributes: Attributes::new(),
        modalities: BTreeMap::new(),
        sop_classes: BTreeMap::new(),
        number_of_series: 0,
        number_of_instances: 0,
        size_bytes: 0,
        generation: from_clock(now),
        changed_at: now,
        change: None,
        arrived_at: None,
    }
}

fn empty_series(instance: &InstanceRecord, now: i64) -> SeriesRecord {
    SeriesRecord {
        study: instance.study.clone(),
        series: instance.series.clone(),
        attributes: Attributes::new(),
        sop_classes: BTreeMap::new(),
        number_of_instances: 0,
        number_of_images: 0,
        size_bytes: 0,
        generation: from_clock(now),
        changed_at: now,
        change: None,
        preview: PreviewState::None,
    }
}

/// Copies an instance's attributes of a level to the record of that level: those that it lacks, or all that
/// have a value if the instance replaces another.
fn merge(merged: &mut Attributes, instance: &InstanceRecord, level: Level, is_replacing: bool) {
    for (tag, attribute) in &instance.attributes {
        if indexed_attributes::entry(*tag).is_none_or(|entry| entry.level != level) {
            continue;
        }
        let is_missing = merged.get(tag).is_none_or(|present| present.values.is_empty());
        let is_copied = is_missing || (is_replacing && !attribute.values.is_empty());
        if is_copied && size_bytes(attribute) <= MAX_ATTRIBUTE_BYTES {
            merged.insert(*tag, attribute.clone());
        }
    }
}

/// The state of a series' preview after the removal of an image, which no preview may show any longer.
fn preview_after_removal(series: &SeriesRecord, now: i64) -> PreviewState {
    match &series.preview {
        _ if series.number_of_images == 0 => PreviewState::None,
        PreviewState::Ready { .. } | PreviewState::Failed { .. } => {
            PreviewState::Pending { due_at: now, attempts: 0 }
        }
        unchanged @ (PreviewState::None | PreviewState::Pending { .. }) => unchanged.clone(),
    }
}

fn modality(instance: &InstanceRecord) -> Option<&str> {
    let text = instance.attributes.get(&tags::MODALITY).and_then(Attribute::first_text)?.trim();
    (!text.is_empty()).then_some(text)
}

/// An upper estimate of the bytes of an attribute in a row.
fn size_bytes(attribute: &Attribute) -> usize {
    let of_value = |value: &Value| match value {
        Value::Absent => 0,
        Value::Text(text) | Value::Number(text) => text.len(),
        Value::Name(name) => 64 + name.alphabetic.len() + name.ideographic.len() + name.phonetic.len(),
        Value::Item(item) => item.values().map(size_bytes).sum(),
    };
    32 + attribute.values.iter().map(|value| 16 + of_value(value)).sum::<usize>()
}

fn add_one(counts: &mut BTreeMap<String, u64>, key: &str) {
    let is_counted =
        key.len() <= MAX_COUNTED_BYTES && (counts.len() < MAX_COUNTED || counts.contains_key(key));
    if is_counted {
        *counts.entry(key.to_owned()).or_default() += 1;
    }
}

fn subtract_one(counts: &mut BTreeMap<String, u64>, key: &str) {
    if let Some(count) = counts.get_mut(key) {
        *count = count.saturating_sub(1);
        if *count == 0 {
            counts.remove(key);
        }
    }
}
