//! A study and some of its series as they will be: read, changed in memory, written in one transaction.

use std::collections::BTreeMap;

use crate::dicom::attributes::{Attribute, Attributes, Value};
use crate::dicom::uid::{SeriesUid, StudyUid};
use crate::index::records::{InstanceRecord, Preview, SeriesRecord, StudyRecord};
use crate::index::{Error, keys, rows};
use crate::query::Level;
use crate::query::attributes::{self, MODALITY};
use crate::table::{Expect, Item, ItemKey, SecondaryKey, Write};

/// A larger attribute is left out of studies' and series' rows, which must hold all of theirs in one: no value by
/// which anybody would look for a study is longer. Instances keep it.
const MAX_ATTRIBUTE_BYTES: usize = 4096;
/// Different modalities, or SOP classes, that a row counts; and the longest that is one.
const MAX_KINDS: usize = 500;
const MAX_KIND_BYTES: usize = 64;

/// A study with the series that a transaction changes.
pub(crate) struct Draft {
    tenant: String,
    now: i64,
    study: Row<StudyRecord>,
    series: BTreeMap<SeriesUid, Row<SeriesRecord>>,
}

/// A record with the version of the row that it was read from.
struct Row<R> {
    read: Option<u64>,
    record: Option<R>,
    is_changed: bool,
}

impl<R: for<'a> serde::Deserialize<'a>> Row<R> {
    fn read(item: Option<Item>) -> Result<Self, Error> {
        let Some(item) = item else { return Ok(Self { read: None, record: None, is_changed: false }) };
        let record = rows::decode(&item.key, &item.body)?;
        Ok(Self { read: Some(item.version), record: Some(record), is_changed: false })
    }

    fn expect(&self) -> Expect {
        self.read.map_or(Expect::Absent, Expect::Version)
    }

    /// The version to write: never one that a row under this key had before, even if it was deleted since.
    fn next_version(&self, now: i64) -> u64 {
        self.read.map_or(from_clock(now), |version| version + 1)
    }
}

/// Where generations and versions start: a study that is deleted and stored again does not repeat them.
fn from_clock(now: i64) -> u64 {
    u64::try_from(now).unwrap_or(0)
}

impl Draft {
    /// A draft of what was read: the study's row and those of the series to change.
    pub(crate) fn new(
        tenant: &str,
        now: i64,
        study: Option<Item>,
        series: impl IntoIterator<Item = (SeriesUid, Option<Item>)>,
    ) -> Result<Self, Error> {
        let mut rows = BTreeMap::new();
        for (uid, item) in series {
            rows.insert(uid, Row::read(item)?);
        }
        Ok(Self { tenant: tenant.to_owned(), now, study: Row::read(study)?, series: rows })
    }

    /// Counts an instance in. `preview_due` is when the series' preview is to be made, if it has pixels; `None` if
    /// none is.
    pub(crate) fn add(&mut self, instance: &InstanceRecord, preview_due: Option<i64>, is_replacing: bool) {
        let now = self.now;
        self.study.is_changed = true;
        let study = self.study.record.get_or_insert_with(|| empty_study(&instance.study, now));
        let row = self.series.entry(instance.series.clone()).or_insert(Row {
            read: None,
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
        series.size_bytes += instance.size_bytes;
        if instance.layout.pixels.is_some() {
            series.number_of_images += 1;
            // What was made before shows less than there is.
            series.preview = match (preview_due, &series.preview) {
                (None, _) => Preview::None,
                // It is put off when it is due, not by each instance: all series that wait are in one partition.
                (Some(later), Preview::Pending { due_at, .. }) => {
                    Preview::Pending { due_at: later.min(*due_at), attempts: 0 }
                }
                (Some(due_at), _) => Preview::Pending { due_at, attempts: 0 },
            };
        }
    }

    /// Counts an instance out.
    pub(crate) fn subtract(&mut self, instance: &InstanceRecord) {
        self.study.is_changed = true;
        if let Some(study) = &mut self.study.record {
            if let Some(modality) = modality(instance) {
                take_one(&mut study.modalities, modality);
            }
            take_one(&mut study.sop_classes, &instance.sop_class);
            study.number_of_instances = study.number_of_instances.saturating_sub(1);
            study.size_bytes = study.size_bytes.saturating_sub(instance.size_bytes);
        }
        let Some(row) = self.series.get_mut(&instance.series) else { return };
        row.is_changed = true;
        if let Some(series) = &mut row.record {
            take_one(&mut series.sop_classes, &instance.sop_class);
            series.number_of_instances = series.number_of_instances.saturating_sub(1);
            series.size_bytes = series.size_bytes.saturating_sub(instance.size_bytes);
            if instance.layout.pixels.is_some() {
                series.number_of_images = series.number_of_images.saturating_sub(1);
                series.preview = preview_without(series, self.now);
            }
        }
    }

    /// The writes that bring the rows to this state: none if nothing changed. What is empty is deleted.
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
                    _ => put(key, version, keys::of_study(tenant, study), study, expect)?,
                });
            }
        }
        Ok(writes)
    }
}

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
        preview: Preview::None,
    }
}

/// Takes the attributes of a level over: those that are missing, or all that have a value.
fn merge(kept: &mut Attributes, instance: &InstanceRecord, level: Level, is_replacing: bool) {
    for (tag, attribute) in &instance.attributes {
        if attributes::entry(*tag).is_none_or(|entry| entry.level != level) {
            continue;
        }
        let is_missing = kept.get(tag).is_none_or(|kept| kept.values.is_empty());
        let is_better = is_missing || (is_replacing && !attribute.values.is_empty());
        if is_better && size_bytes(attribute) <= MAX_ATTRIBUTE_BYTES {
            kept.insert(*tag, attribute.clone());
        }
    }
}

/// The preview of a series that has lost an image, which must not be shown any longer.
fn preview_without(series: &SeriesRecord, now: i64) -> Preview {
    match &series.preview {
        _ if series.number_of_images == 0 => Preview::None,
        Preview::Made { .. } | Preview::Failed { .. } => Preview::Pending { due_at: now, attempts: 0 },
        as_before @ (Preview::None | Preview::Pending { .. }) => as_before.clone(),
    }
}

fn modality(instance: &InstanceRecord) -> Option<&str> {
    let text = instance.attributes.get(&MODALITY).and_then(Attribute::first_text)?.trim();
    (!text.is_empty()).then_some(text)
}

/// About the bytes of an attribute in a row, rather more.
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
    let is_kind = key.len() <= MAX_KIND_BYTES && (counts.len() < MAX_KINDS || counts.contains_key(key));
    if is_kind {
        *counts.entry(key.to_owned()).or_default() += 1;
    }
}

fn take_one(counts: &mut BTreeMap<String, u64>, key: &str) {
    if let Some(count) = counts.get_mut(key) {
        *count = count.saturating_sub(1);
        if *count == 0 {
            counts.remove(key);
        }
    }
}
