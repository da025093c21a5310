//! The walk over the elements of an object, which copies those that stay and replaces the values of others.

use std::collections::HashSet;

use crate::config::{ProfileOption, SafePrivateRule};
use crate::dicom::attributes::{Tag, Vr};
use crate::dicom::deidentify::kinds::{
    STRUCTURAL_UIDS, is_dropped_group, is_free_text, is_number_or_term, may_be_bulk,
};
use crate::dicom::deidentify::table::{self, ActionCode, ProfileAction};
use crate::dicom::deidentify::{Deidentifier, values};
use crate::dicom::dictionary;
use crate::dicom::explicit::top_level;
use crate::dicom::scan::{EventKind, Outline, ScanEvent};
use crate::dicom::tags;

/// The fate of an element.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Fate {
    /// The element is left out.
    Drop,
    /// The element stays as it is; a sequence stays, and its items are de-identified.
    Keep,
    /// The element gets another value, of this VR.
    Replace(Vr, Vec<u8>),
    /// The sequence gets an item in the place of its items, or none.
    Items(Option<DummyItem>),
}

/// An item in the place of others.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum DummyItem {
    /// An item without attributes.
    Blank,
    /// A code that says that the code was replaced.
    Code,
}

/// A private creator of the data set or an item.
struct PrivateCreator {
    group: u16,
    block: u8,
    name: String,
    /// The index of the event that names it.
    event: usize,
    /// Whether an element of its block stays.
    is_used: bool,
}

/// A walk over the elements of an object.
pub(super) struct Walk<'a> {
    deidentifier: &'a Deidentifier,
    source: &'a Outline,
    sop_class: String,
    days: i64,
    is_signed: bool,
    head: Vec<u8>,
    events: Vec<ScanEvent>,
    /// The private creators of the data set and of the items that are open.
    levels: Vec<Vec<PrivateCreator>>,
    /// The events of private creators without an element that stays.
    unused: HashSet<usize>,
    /// The sequences around the current element that are left out.
    dropped: usize,
}

impl<'a> Walk<'a> {
    pub(super) fn new(deidentifier: &'a Deidentifier, source: &'a Outline, patient: &[u8]) -> Self {
        let text = |tag| {
            let value = top_level(source, tag).map_or(&[][..], |(_, value)| value);
            String::from_utf8_lossy(value).trim_matches(['\0', ' ']).to_owned()
        };
        let is_signed =
            top_level(source, tags::PIXEL_REPRESENTATION).is_some_and(|(_, value)| value.contains(&1));
        Self {
            deidentifier,
            source,
            sop_class: text(tags::SOP_CLASS_UID),
            days: deidentifier.secret.days(patient),
            is_signed,
            head: Vec::with_capacity(source.head.len()),
            events: Vec::with_capacity(source.events.len()),
            levels: vec![Vec::new()],
            unused: HashSet::new(),
            dropped: 0,
        }
    }

    /// The outline of the copy.
    pub(super) fn copy(mut self) -> Outline {
        for event in &self.source.events {
            self.event(event);
        }
        while !self.levels.is_empty() {
            self.end_level();
        }
        let mut index = 0;
        self.events.retain(|_| {
            index += 1;
            !self.unused.contains(&(index - 1))
        });
        Outline {
            head: self.head,
            events: self.events,
            transfer_syntax: self.source.transfer_syntax.clone(),
            is_deflated: self.source.is_deflated,
            fragments: self.source.fragments.clone(),
            codestream_starts: self.source.codestream_starts.clone(),
            first_frame_head: self.source.first_frame_head.clone(),
            ..Outline::default()
        }
    }

    fn event(&mut self, event: &ScanEvent) {
        match &event.kind {
            EventKind::Sequence if self.dropped > 0 => self.dropped += 1,
            EventKind::SequenceEnd if self.dropped > 0 => self.dropped -= 1,
            _ if self.dropped > 0 => {}
            EventKind::Item => {
                self.levels.push(Vec::new());
                self.events.push(event.clone());
            }
            EventKind::ItemEnd => {
                self.end_level();
                self.events.push(event.clone());
            }
            EventKind::SequenceEnd => self.events.push(event.clone()),
            EventKind::Sequence => self.sequence(event),
            EventKind::Value(range) => {
                let value = self.source.head.get(range.clone()).unwrap_or_default();
                if self.names_creator(event, value) {
                    self.keep(event, Some(value));
                    return;
                }
                let fate = self.fate(event, Some(value));
                self.carry_out(event, Some(value), fate);
            }
            EventKind::Bulk | EventKind::Encapsulated => {
                let fate = self.fate(event, None);
                self.carry_out(event, None, fate);
            }
        }
    }

    /// Ends the data set or an item: private creators of which no element stays are left out.
    fn end_level(&mut self) {
        let creators = self.levels.pop().unwrap_or_default();
        self.unused.extend(creators.iter().filter(|creator| !creator.is_used).map(|creator| creator.event));
    }

    fn sequence(&mut self, event: &ScanEvent) {
        match self.fate(event, None) {
            Fate::Keep => self.events.push(event.clone()),
            Fate::Drop | Fate::Replace(..) => self.dropped = 1,
            Fate::Items(item) => {
                self.dropped = 1;
                self.push(EventKind::Sequence, event.tag, Some(Vr(*b"SQ")));
                if let Some(item) = item {
                    self.push(EventKind::Item, tags::ITEM, None);
                    if item == DummyItem::Code {
                        self.dummy_code();
                    }
                    self.push(EventKind::ItemEnd, tags::ITEM, None);
                }
                self.push(EventKind::SequenceEnd, event.tag, None);
            }
        }
    }

    /// The attributes of a code that stands for one that was replaced.
    fn dummy_code(&mut self) {
        for (tag, vr, text) in [
            (tags::CODE_VALUE, b"SH", values::DUMMY),
            (tags::CODING_SCHEME_DESIGNATOR, b"SH", b"99CUSPID"),
            (tags::CODE_MEANING, b"LO", values::DUMMY),
        ] {
            self.value(tag, Vr(*vr), text);
        }
    }

    fn push(&mut self, kind: EventKind, tag: Tag, vr: Option<Vr>) {
        self.events.push(ScanEvent { kind, tag, vr, offset: 0, length: 0, is_big_endian: false });
    }

    fn value(&mut self, tag: Tag, vr: Vr, value: &[u8]) {
        let from = self.head.len();
        self.head.extend_from_slice(value);
        self.push(EventKind::Value(from..self.head.len()), tag, Some(vr));
    }

    fn keep(&mut self, event: &ScanEvent, value: Option<&[u8]>) {
        let kind = match value {
            Some(value) => {
                let from = self.head.len();
                self.head.extend_from_slice(value);
                EventKind::Value(from..self.head.len())
            }
            None => event.kind.clone(),
        };
        self.events.push(ScanEvent { kind, ..event.clone() });
    }

    fn carry_out(&mut self, event: &ScanEvent, value: Option<&[u8]>, fate: Fate) {
        match fate {
            Fate::Drop | Fate::Items(_) => {}
            Fate::Keep => self.keep(event, value),
            Fate::Replace(vr, value) => self.value(event.tag, vr, &value),
        }
    }

    /// Whether the element names a private creator whose elements may stay. It is left out in the end if none
    /// does.
    fn names_creator(&mut self, event: &ScanEvent, value: &[u8]) -> bool {
        let tag = event.tag;
        let block = tag.element();
        let is_creator = tag.is_private() && (0x0010..=0x00FF).contains(&block);
        if !is_creator || !self.deidentifier.has(ProfileOption::RetainSafePrivate) {
            return false;
        }
        let name = String::from_utf8_lossy(value).trim_matches(['\0', ' ']).to_owned();
        let event = self.events.len();
        if let Some(level) = self.levels.last_mut() {
            let (group, block) = (tag.group(), block as u8);
            level.push(PrivateCreator { group, block, name, event, is_used: false });
        }
        true
    }

    /// Whether a private element is known to identify nobody.
    fn is_safe_private(&mut self, event: &ScanEvent, value: &[u8]) -> bool {
        let tag = event.tag;
        let [block, element] = tag.element().to_be_bytes();
        let rules = &self.deidentifier.safe_private;
        let mut creators = self.levels.last_mut().into_iter().flatten();
        let Some(creator) = creators.rfind(|one| one.group == tag.group() && one.block == block) else {
            return false;
        };
        let of_site = |rule: &SafePrivateRule| {
            (rule.group, rule.element, &rule.creator) == (tag.group(), element, &creator.name)
        };
        // Where neither the element nor the table has a VR, numbers as text are all that can be known.
        let known = table::safe_private_vr(tag.group(), element, &creator.name)
            .or_else(|| rules.iter().any(of_site).then_some(Vr(*b"DS")));
        let sent = event.vr.filter(|vr| &vr.0 != b"UN");
        let is_safe = known.is_some_and(|known| is_number_or_term(sent.unwrap_or(known), value));
        creator.is_used |= is_safe;
        is_safe
    }

    /// Decides on an element; `value` is `None` for sequences and bulk values.
    fn fate(&mut self, event: &ScanEvent, value: Option<&[u8]>) -> Fate {
        let tag = event.tag;
        let is_sequence = event.kind == EventKind::Sequence;
        if tag.is_private() {
            let is_safe = value.is_some_and(|value| self.is_safe_private(event, value));
            return if is_safe { Fate::Keep } else { Fate::Drop };
        }
        if tag.element() == 0 || is_dropped_group(tag) {
            return Fate::Drop;
        }
        if tags::is_pixel_data(tag) {
            return if self.levels.len() == 1 { Fate::Keep } else { Fate::Drop };
        }
        if is_sequence {
            return sequence_fate(tag, self.action(tag, Vr(*b"SQ")));
        }
        let sent = event.vr.filter(|vr| &vr.0 != b"UN");
        let of_dictionary = dictionary::vr(tag, self.is_signed);
        // A sequence that was not sent as one may hold anything.
        if &of_dictionary.0 == b"SQ" {
            return Fate::Drop;
        }
        let allowed = sent.filter(|sent| dictionary::allows(tag, *sent));
        // So may text in the place of a number, a date or a UID, and a large value in the place of a small
        // one.
        let is_misplaced =
            allowed.is_none() && sent.is_some_and(is_free_text) && !is_free_text(of_dictionary);
        if is_misplaced || (value.is_none() && !may_be_bulk(of_dictionary)) {
            let Some(row) = table::row_of(tag) else { return Fate::Drop };
            return self.value_fate(tag, of_dictionary, None, self.profile_action(tag, row.basic));
        }
        let vr = allowed.unwrap_or(of_dictionary);
        self.value_fate(tag, vr, value, self.action(tag, vr))
    }

    /// The action on an attribute, by the options and the profile.
    fn action(&self, tag: Tag, vr: Vr) -> ProfileAction {
        let has = |option| self.deidentifier.has(option);
        let Some(row) = table::row_of(tag) else { return self.unlisted_action(tag, vr) };
        if has(ProfileOption::RetainModifiedDates) && row.is_cleaned_by(ProfileOption::RetainModifiedDates) {
            return ProfileAction::Clean;
        }
        let mut options = self.deidentifier.options.iter().copied();
        if options.clone().any(|option| row.is_kept_by(option)) {
            return ProfileAction::Keep;
        }
        // Titles of application entities, which Retain Device Identity cleans, cannot be cleaned by a
        // program.
        let is_cleaned = |option| {
            let is_of_words = matches!(
                option,
                ProfileOption::CleanDescriptors | ProfileOption::RetainPatientCharacteristics
            );
            is_of_words && row.is_cleaned_by(option)
        };
        if options.any(is_cleaned) { ProfileAction::Clean } else { self.profile_action(tag, row.basic) }
    }

    /// The action of the profile alone.
    fn profile_action(&self, tag: Tag, code: ActionCode) -> ProfileAction {
        code.of(table::type_of(&self.sop_class, tag, self.levels.len() > 1))
    }

    /// The action on an attribute that the table does not name: dates and names by their VR, as the table
    /// has it for others of the kind; what is not in the dictionary is removed.
    fn unlisted_action(&self, tag: Tag, vr: Vr) -> ProfileAction {
        let has = |option| self.deidentifier.has(option);
        let is_date = matches!(&vr.0, b"DA" | b"DT" | b"TM");
        match &vr.0 {
            _ if dictionary::keyword(tag).is_none() || tag.group() < 0x0008 => ProfileAction::Remove,
            _ if is_date && has(ProfileOption::RetainFullDates) => ProfileAction::Keep,
            _ if is_date && has(ProfileOption::RetainModifiedDates) => ProfileAction::Clean,
            b"PN" => self.profile_action(tag, ActionCode::UNLISTED),
            _ if is_date => self.profile_action(tag, ActionCode::UNLISTED),
            b"AE" | b"UR" => ProfileAction::Remove,
            b"UI" if STRUCTURAL_UIDS.contains(&tag.0) || has(ProfileOption::RetainUids) => {
                ProfileAction::Keep
            }
            b"UI" => ProfileAction::ReplaceUid,
            _ if tag == tags::ENCAPSULATED_DOCUMENT => ProfileAction::Remove,
            _ if is_free_text(vr) && !table::is_kept_text(tag) => ProfileAction::Clean,
            _ => ProfileAction::Keep,
        }
    }

    /// The action on a value of which nothing can be kept.
    fn action_without_cleaning(&self, tag: Tag, vr: Vr) -> ProfileAction {
        match table::row_of(tag) {
            Some(row) => self.profile_action(tag, row.basic),
            // The type of an attribute of text that is not in the table is not known.
            None if is_free_text(vr) => ProfileAction::Dummy,
            None => self.profile_action(tag, ActionCode::UNLISTED),
        }
    }

    fn value_fate(&self, tag: Tag, vr: Vr, value: Option<&[u8]>, action: ProfileAction) -> Fate {
        match action {
            ProfileAction::Remove => Fate::Drop,
            ProfileAction::Empty => Fate::Replace(vr, Vec::new()),
            ProfileAction::Dummy => Fate::Replace(vr, values::dummy(vr)),
            ProfileAction::ReplaceUid if &vr.0 == b"UI" => {
                Fate::Replace(vr, self.uids(value.unwrap_or_default()))
            }
            ProfileAction::ReplaceUid => Fate::Drop,
            ProfileAction::Keep if value.is_none_or(|value| values::is_what_it_says(vr, value)) => Fate::Keep,
            ProfileAction::Keep => Fate::Drop,
            ProfileAction::Clean => {
                let cleaned = value.and_then(|value| match &vr.0 {
                    b"DA" | b"DT" | b"TM" if values::is_what_it_says(vr, value) => {
                        values::shifted(vr, value, self.days)
                    }
                    b"DA" | b"DT" | b"TM" => None,
                    _ => {
                        let words = values::known_words(value, &self.deidentifier.safe_words);
                        (!words.is_empty()).then_some(words)
                    }
                });
                match cleaned {
                    Some(cleaned) => Fate::Replace(vr, cleaned),
                    None => self.value_fate(tag, vr, value, self.action_without_cleaning(tag, vr)),
                }
            }
        }
    }

    /// Other UIDs in the place of those of a value.
    fn uids(&self, value: &[u8]) -> Vec<u8> {
        let text = String::from_utf8_lossy(value);
        let values = text.split('\\').map(|uid| uid.trim_matches(['\0', ' ']));
        let values = values
            .map(|uid| if uid.is_empty() { String::new() } else { self.deidentifier.replaced_uid(uid) });
        values.collect::<Vec<_>>().join("\\").into_bytes()
    }
}

fn sequence_fate(tag: Tag, action: ProfileAction) -> Fate {
    match action {
        ProfileAction::Remove => Fate::Drop,
        ProfileAction::Empty => Fate::Items(None),
        ProfileAction::Keep | ProfileAction::Clean | ProfileAction::ReplaceUid => Fate::Keep,
        ProfileAction::Dummy => match tag {
            // The table has an action for each attribute of their items.
            tags::OPERATOR_IDENTIFICATION_SEQUENCE | tags::REFERENCED_PERFORMED_PROCEDURE_STEP_SEQUENCE => {
                Fate::Keep
            }
            tags::INSTITUTION_CODE_SEQUENCE | tags::PERSON_IDENTIFICATION_CODE_SEQUENCE => {
                Fate::Items(Some(DummyItem::Code))
            }
            _ => Fate::Items(Some(DummyItem::Blank)),
        },
    }
}
