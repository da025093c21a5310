//! The Store Instances Response Module, and the status that goes with it (PS3.18 §10.5.3, Annex I).

use std::collections::BTreeSet;

use axum::body::Body;
use axum::http::header::{
    CONTENT_LENGTH, CONTENT_LOCATION, CONTENT_TYPE, LOCATION, RETRY_AFTER, VARY, WARNING,
};
use axum::http::{Response, StatusCode};

use crate::archive::ingest::assembly::UnassembledInstance;
use crate::archive::ingest::{Identity, Outcome, Refusal, StoredInstance};
use crate::dicom::attributes::{Attribute, Attributes, Value, Vr};
use crate::dicom::failure::{Failure, Warning};
use crate::dicom::json;
use crate::dicom::tags;
use crate::dicom::xml;
use crate::http::error::{Error, failure_reason};
use crate::http::request::Head;
use crate::http::request::accept::Offer;
use crate::http::response::multipart::DICOM_XML;
use crate::http::response::ranged;
use crate::http::warning::warning;

/// "Data Set does not match SOP Class": an attribute breaks a rule and was stored unchanged (§I.2.1).
const DOES_NOT_MATCH: u16 = 0xB007;
/// "Cannot understand" (§I.2.2).
pub(super) const CANNOT_UNDERSTAND: u16 = 0xC000;
/// "Processing failure" (§I.2.2).
const PROCESSING_FAILURE: u16 = 0x0110;

/// The comment on an instance that was stored before with the same bytes. No failure and no warning: a
/// comment without a reason.
const STORED_BEFORE: &str = "was stored before";
/// The maximal length of a value of LO (PS3.5 §6.2).
const MAX_COMMENT_CHARACTERS: usize = 64;
/// The end of a comment that was shortened.
const ELLIPSIS: &str = "...";
/// The maximal number of names of skipped entries in a warning.
const MAX_NAMES: usize = 10;

/// The result of one part of a request, or of one entry of a zip archive in it.
pub(super) enum PartResult {
    /// An instance was stored or refused.
    Outcome {
        /// The result of the upload.
        outcome: Outcome,
        /// The name of the zip entry, if it is one.
        name: Option<String>,
    },
    /// Metadata from which no instance could be assembled.
    Unmade(UnassembledInstance),
    /// The part is no instance.
    Other {
        /// The Failure Reason.
        reason: u16,
        /// The error comment.
        comment: String,
        /// The name of the zip entry or of the bulk data, if it has one.
        name: Option<String>,
    },
}

/// The results of a request.
#[derive(Default)]
pub(super) struct StoreResults {
    pub(super) items: Vec<PartResult>,
    pub(super) skipped: SkippedEntries,
}

/// Entries of zip archives that are no instances and were skipped.
#[derive(Default)]
pub(super) struct SkippedEntries {
    count: usize,
    names: Vec<String>,
}

impl SkippedEntries {
    /// Counts one.
    pub(super) fn add(&mut self, name: String) {
        self.count += 1;
        if self.names.len() < MAX_NAMES {
            self.names.push(name);
        }
    }

    fn warning(&self) -> Option<String> {
        let rest = self.count - self.names.len();
        let and_more = if rest > 0 { format!(" and {rest} more") } else { String::new() };
        let names = self.names.join(", ");
        (self.count > 0).then(|| format!("not DICOM instances, skipped: {names}{and_more}"))
    }
}

/// The module while items are added.
#[derive(Default)]
struct ResponseModule {
    stored: Vec<Attributes>,
    failed: Vec<Attributes>,
    other: Vec<Attributes>,
    /// The URL of the study of all stored instances, if there is only one.
    study_url: Option<String>,
    /// Whether an instance was stored that was not there before.
    has_created: bool,
    has_warnings: bool,
    reasons: BTreeSet<u16>,
    /// Whether every failure is transient.
    may_retry: bool,
    /// The number of instances that a limit of the tenant's plan has refused.
    over_quota: usize,
}

/// Answers a request with the results of its parts; `ended` is the result of reading the body.
///
/// The response is in XML if the client prefers that, and else in JSON, even if the client does not accept
/// JSON: the instances are stored already.
///
/// # Errors
/// The error of reading the body, if there are no results.
pub(super) fn respond(
    head: &Head,
    results: StoreResults,
    ended: Result<(), Error>,
) -> Result<Response<Body>, Error> {
    let StoreResults { items, skipped } = results;
    if items.is_empty() && skipped.count == 0 {
        return Err(ended.err().unwrap_or_else(|| Error::Body("the body holds no instances".into())));
    }
    if let Some(reason) = malformed(&items) {
        return Err(Error::Body(reason.to_owned()));
    }
    let mut module = ResponseModule { may_retry: true, ..ResponseModule::default() };
    for item in items {
        module.add(head.base_url(), item);
    }
    let mut response = Response::builder().header(VARY, "Accept");
    if let Err(error) = ended {
        if module.stored.is_empty() {
            return Err(error);
        }
        module.add_other(PROCESSING_FAILURE, &error.to_string(), None);
        module.may_retry = false;
        response = response.header(WARNING, warning(&error.to_string()));
    }
    if module.stored.is_empty() && module.reasons.is_empty() {
        module.add_other(CANNOT_UNDERSTAND, "there is no DICOM instance in it", None);
        module.may_retry = false;
    }
    for text in module.warnings().into_iter().chain(skipped.warning()) {
        response = response.header(WARNING, warning(&text));
    }
    let status = module.status();
    if status == StatusCode::SERVICE_UNAVAILABLE {
        response = response.header(RETRY_AFTER, "5");
    }
    if let Some(url) = module.study_url.as_deref().filter(|_| module.has_created) {
        response = response.header(LOCATION, url).header(CONTENT_LOCATION, url);
    }
    let (media_type, text) = written(&module.into_attributes(), head);
    let response = response.status(status).header(CONTENT_TYPE, media_type);
    ranged::finish(response.header(CONTENT_LENGTH, text.len()), Body::from(text))
}

/// The reason why the syntax of the only part of a request is wrong, which is a bad request (Table 10.5.3-1).
fn malformed(items: &[PartResult]) -> Option<&str> {
    match items {
        [PartResult::Unmade(UnassembledInstance { reference: None, refusal: Refusal::Metadata(reason) })] => {
            Some(reason)
        }
        _ => None,
    }
}

/// The module in the representation that the client prefers, and its media type.
fn written(module: &Attributes, head: &Head) -> (&'static str, Vec<u8>) {
    let offer = |essence| Offer { is_multipart: false, essence, transfer_syntax: None, is_default: true };
    let offers = ["application/dicom+json", "application/json", DICOM_XML].map(offer);
    let media_type = head.accept().choose(&offers).map_or("application/dicom+json", |offer| offer.essence);
    let mut text = Vec::new();
    match media_type {
        DICOM_XML => xml::write(&json::tree(module), &mut text),
        _ => json::write(module, &mut text),
    }
    (media_type, text)
}

impl ResponseModule {
    fn add(&mut self, base_url: &str, item: PartResult) {
        match item {
            PartResult::Outcome {
                outcome: Outcome { identity: Some(identity), result: Ok(stored), .. },
                ..
            } => {
                self.add_stored(base_url, &identity, &stored);
            }
            // The archive never stores an instance without an identity.
            PartResult::Outcome { outcome: Outcome { result: Ok(_), .. }, .. } => {
                self.add_other(PROCESSING_FAILURE, "stored without an identity", None);
            }
            PartResult::Outcome { outcome: Outcome { identity, reference, result: Err(refusal) }, name } => {
                let read = reference.map(|(sop_class, instance)| reference_to(&sop_class, instance.as_str()));
                self.add_refused(identity.as_ref().map(reference_of).or(read), &refusal, name);
            }
            PartResult::Unmade(UnassembledInstance { reference, refusal }) => {
                let reference = reference.map(|(sop_class, instance)| reference_to(&sop_class, &instance));
                self.add_refused(reference, &refusal, None);
            }
            PartResult::Other { reason, comment, name } => {
                self.may_retry = false;
                self.add_other(reason, &comment, name.as_deref());
            }
        }
    }

    fn add_stored(&mut self, base_url: &str, identity: &Identity, stored: &StoredInstance) {
        let Identity { study, series, instance, .. } = identity;
        let study_url = format!("{base_url}/studies/{study}");
        let mut item = reference_of(identity);
        let url = format!("{study_url}/series/{series}/instances/{instance}");
        item.insert(tags::RETRIEVE_URL, Attribute::text(b"UR", url));
        if !stored.warnings.is_empty() {
            item.insert(tags::WARNING_REASON, Attribute::number(b"US", DOES_NOT_MATCH));
            item.insert(tags::FAILED_ATTRIBUTES_SEQUENCE, sequence(stored.warnings.iter().map(at_fault)));
            self.has_warnings = true;
        }
        if stored.is_duplicate {
            item.insert(tags::ERROR_COMMENT, Attribute::text(b"LO", STORED_BEFORE));
        }
        self.has_created |= !stored.is_duplicate;
        let is_same_study = self.stored.is_empty() || self.study_url.as_ref() == Some(&study_url);
        self.study_url = is_same_study.then_some(study_url);
        self.stored.push(item);
    }

    fn add_refused(&mut self, reference: Option<Attributes>, refusal: &Refusal, name: Option<String>) {
        self.over_quota += usize::from(matches!(refusal, Refusal::Quota(_)));
        self.may_retry &= matches!(refusal, Refusal::Busy | Refusal::NoSpace | Refusal::Failed(_));
        let reason = failure_reason(refusal);
        let mut details = details(refusal);
        details.extend(name.as_deref().map(name_of));
        self.reasons.insert(reason);
        let list = if reference.is_some() { &mut self.failed } else { &mut self.other };
        let mut item = reference.unwrap_or_default();
        item.insert(tags::FAILURE_REASON, Attribute::number(b"US", reason));
        item.insert(tags::FAILED_ATTRIBUTES_SEQUENCE, sequence(details.into_iter()));
        list.push(item);
    }

    fn add_other(&mut self, reason: u16, text: &str, name: Option<&str>) {
        self.reasons.insert(reason);
        let details = [comment(text)].into_iter().chain(name.map(name_of));
        self.other.push(Attributes::from([
            (tags::FAILURE_REASON, Attribute::number(b"US", reason)),
            (tags::FAILED_ATTRIBUTES_SEQUENCE, sequence(details)),
        ]));
    }

    /// The status by Table 10.5.3-1, which names the common ones; 507 by RFC 4918 §11.5: a user must act
    /// before a retry.
    fn status(&self) -> StatusCode {
        let failures = self.failed.len() + self.other.len();
        let has_failures = failures > 0;
        match (self.stored.is_empty(), has_failures) {
            (true, true) if self.over_quota == failures => StatusCode::INSUFFICIENT_STORAGE,
            (true, _) if self.may_retry => StatusCode::SERVICE_UNAVAILABLE,
            (true, _) => StatusCode::CONFLICT,
            (false, false) if !self.has_warnings => StatusCode::OK,
            (false, _) => StatusCode::ACCEPTED,
        }
    }

    /// A line for each status code that occurs (§10.5.3.2).
    fn warnings(&self) -> Vec<String> {
        let warning = self.has_warnings.then_some(DOES_NOT_MATCH);
        let codes = warning.into_iter().chain(self.reasons.iter().copied());
        codes.map(|code| format!("{code:04X}: {}", meaning(code))).collect()
    }

    fn into_attributes(self) -> Attributes {
        let url = Attribute::text(b"UR", self.study_url.unwrap_or_default());
        let mut attributes = Attributes::from([(tags::RETRIEVE_URL, url)]);
        for (tag, items) in [
            (tags::FAILED_SOP_SEQUENCE, self.failed),
            (tags::REFERENCED_SOP_SEQUENCE, self.stored),
            (tags::OTHER_FAILURES_SEQUENCE, self.other),
        ] {
            if !items.is_empty() {
                attributes.insert(tag, sequence(items.into_iter()));
            }
        }
        attributes
    }
}

/// The meaning of a status code (§I.2).
fn meaning(code: u16) -> &'static str {
    match code {
        DOES_NOT_MATCH => "attributes are not as they should be, and were stored as they are",
        PROCESSING_FAILURE => "processing failure",
        0x0122 => "SOP class not supported",
        0xA700 => "out of resources",
        0xA900 => "the data set does not match",
        0xC122 => "transfer syntax not supported",
        _ => "cannot understand",
    }
}

/// The details of a refusal: the attributes at fault, or the reason as text.
fn details(refusal: &Refusal) -> Vec<Attributes> {
    match refusal {
        Refusal::Attributes(faults) => faults.iter().map(at_fault).collect(),
        Refusal::Unreadable(Failure::NoIdentity { tag, .. }) => {
            let reason = "is missing, empty or not a UID".to_owned();
            vec![at_fault(&Warning { tag: *tag, reason })]
        }
        refusal => vec![comment(&refusal.to_string())],
    }
}

fn at_fault(fault: &Warning) -> Attributes {
    let mut item = comment(&fault.reason);
    item.insert(tags::SELECTOR_ATTRIBUTE, Attribute::text(b"AT", fault.tag.to_string()));
    item
}

fn comment(text: &str) -> Attributes {
    // A backslash separates values.
    let text = shortened(&text.replace('\\', "/"));
    Attributes::from([(tags::ERROR_COMMENT, Attribute::text(b"LO", text))])
}

/// A text that fits into a comment. A long one ends after a whole word, because a UID without its end is
/// another UID.
fn shortened(text: &str) -> String {
    if text.chars().count() <= MAX_COMMENT_CHARACTERS {
        return text.to_owned();
    }
    let kept: String = text.chars().take(MAX_COMMENT_CHARACTERS - ELLIPSIS.len()).collect();
    format!("{}{ELLIPSIS}", kept.rsplit_once(' ').map_or(&*kept, |(words, _)| words))
}

/// A name as a comment; of a long name, the end, in which names differ.
fn name_of(name: &str) -> Attributes {
    let beyond = name.chars().count().saturating_sub(MAX_COMMENT_CHARACTERS);
    comment(&name.chars().skip(beyond).collect::<String>())
}

fn sequence(items: impl Iterator<Item = Attributes>) -> Attribute {
    Attribute { vr: Vr(*b"SQ"), values: items.map(Value::Item).collect() }
}

/// The SOP Instance Reference Macro (PS3.3 Table 10-11).
fn reference_of(identity: &Identity) -> Attributes {
    reference_to(&identity.sop_class, identity.instance.as_str())
}

fn reference_to(sop_class: &str, instance: &str) -> Attributes {
    Attributes::from([
        (tags::REFERENCED_SOP_CLASS_UID, Attribute::text(b"UI", sop_class)),
        (tags::REFERENCED_SOP_INSTANCE_UID, Attribute::text(b"UI", instance)),
    ])
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::dicom::attributes::Tag;
    use crate::dicom::uids;

    fn results(items: Vec<PartResult>) -> StoreResults {
        StoreResults { items, skipped: SkippedEntries::default() }
    }

    fn head() -> Head {
        Head::for_tests("http://h/dicom-web")
    }

    fn identity(study: &str) -> Option<Identity> {
        Some(Identity {
            study: study.parse().unwrap(),
            series: "2".parse().unwrap(),
            instance: "3".parse().unwrap(),
            sop_class: uids::SECONDARY_CAPTURE_IMAGE_STORAGE.into(),
        })
    }

    fn stored(warnings: usize) -> PartResult {
        let warning = Warning { tag: Tag(0), reason: String::new() };
        let stored =
            StoredInstance { is_duplicate: false, has_replaced: false, warnings: vec![warning; warnings] };
        PartResult::Outcome {
            outcome: Outcome { identity: identity("1"), reference: None, result: Ok(stored) },
            name: None,
        }
    }

    fn refused(refusal: Refusal) -> PartResult {
        PartResult::Outcome {
            outcome: Outcome { identity: identity("1"), reference: None, result: Err(refusal) },
            name: None,
        }
    }

    fn unreadable() -> PartResult {
        PartResult::Outcome {
            outcome: Outcome { identity: None, reference: None, result: Err(Failure::NotDicom.into()) },
            name: None,
        }
    }

    #[test]
    fn the_status_tells_how_much_was_stored() {
        let cut_off = || Err(Error::Body("cut off".into()));
        for (items, ended, status) in [
            (vec![stored(0), stored(0)], Ok(()), 200),
            (vec![stored(0), stored(1)], Ok(()), 202),
            (vec![stored(0), unreadable()], Ok(()), 202),
            (vec![stored(0)], cut_off(), 202),
            (vec![unreadable()], Ok(()), 409),
            (vec![PartResult::Other { reason: 0xC000, comment: "x".into(), name: None }], Ok(()), 409),
            (vec![refused(Refusal::Different), refused(Refusal::NoSpace)], Ok(()), 409),
            (
                vec![refused(Refusal::Quota("full".into())), refused(Refusal::Quota("full".into()))],
                Ok(()),
                507,
            ),
            (vec![refused(Refusal::Quota("full".into())), unreadable()], Ok(()), 409),
            (vec![stored(0), refused(Refusal::Quota("full".into()))], Ok(()), 202),
            (vec![refused(Refusal::NoSpace)], Ok(()), 503),
            (vec![refused(Refusal::Busy)], Ok(()), 503),
        ] {
            assert_eq!(respond(&head(), results(items), ended).unwrap().status(), status);
        }
        assert!(matches!(respond(&head(), results(vec![]), Ok(())), Err(Error::Body(_))));
        for items in [vec![], vec![unreadable()]] {
            assert!(matches!(respond(&head(), results(items), Err(Error::Method)), Err(Error::Method)));
        }
        let mut skipped = SkippedEntries::default();
        skipped.add("DICOMDIR".into());
        assert_eq!(respond(&head(), StoreResults { items: vec![], skipped }, Ok(())).unwrap().status(), 409);
    }

    #[test]
    fn each_part_is_accounted_for() {
        let mut module = ResponseModule::default();
        for item in [stored(1), refused(Refusal::Elsewhere), unreadable()] {
            module.add("http://h/dicom-web", item);
        }
        let mut text = Vec::new();
        json::write(&module.into_attributes(), &mut text);
        let json: serde_json::Value = serde_json::from_slice(&text).unwrap();
        assert_eq!(json["00081190"]["Value"][0], "http://h/dicom-web/studies/1");
        let referenced = &json["00081199"]["Value"][0];
        assert_eq!(referenced["00081190"]["Value"][0], "http://h/dicom-web/studies/1/series/2/instances/3");
        assert_eq!(referenced["00081196"]["Value"][0], 0xB007);
        assert_eq!(json["00081198"]["Value"][0]["00081155"]["Value"][0], "3");
        assert_eq!(json["00081198"]["Value"][0]["00081197"]["Value"][0], 0xA900);
        assert_eq!(json["0008119A"]["Value"][0]["00081197"]["Value"][0], 0xC000);
    }
}
