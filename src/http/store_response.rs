//! The Store Instances Response Module, and the status that goes with it (PS3.18 §10.5.3, Annex I).

use axum::body::Body;
use axum::http::header::{CONNECTION, CONTENT_LENGTH, CONTENT_TYPE, RETRY_AFTER, WARNING};
use axum::http::{Response, StatusCode};

use crate::archive::store::{Identity, Outcome, Refusal};
use crate::dicom::attributes::{Attribute, Attributes, Tag, Value, Vr};
use crate::dicom::json;
use crate::http::content;
use crate::http::error::{Error, failure_reason};
use crate::http::search::warning;

const REFERENCED_SOP_CLASS_UID: Tag = Tag(0x0008_1150);
const REFERENCED_SOP_INSTANCE_UID: Tag = Tag(0x0008_1155);
const RETRIEVE_URL: Tag = Tag(0x0008_1190);
const WARNING_REASON: Tag = Tag(0x0008_1196);
const FAILURE_REASON: Tag = Tag(0x0008_1197);
const FAILED_SOP_SEQUENCE: Tag = Tag(0x0008_1198);
const REFERENCED_SOP_SEQUENCE: Tag = Tag(0x0008_1199);
const OTHER_FAILURES_SEQUENCE: Tag = Tag(0x0008_119A);

/// "Data Set does not match SOP Class": an attribute breaks a rule and was kept as it came (§I.2.1).
const DOES_NOT_MATCH: u16 = 0xB007;
/// "Cannot understand" (§I.2.2).
const CANNOT_UNDERSTAND: u16 = 0xC000;
/// "Processing failure" (§I.2.2).
const PROCESSING_FAILURE: u16 = 0x0110;

/// What became of one part of a request.
pub(crate) enum Item {
    /// It was taken for an instance.
    Outcome(Outcome),
    /// It says that it is something else.
    NotDicom,
}

/// The module as it grows.
#[derive(Default)]
struct Module {
    stored: Vec<Attributes>,
    failed: Vec<Attributes>,
    other: Vec<Attributes>,
    /// The study of all stored instances, as long as it is one.
    study_url: Option<String>,
    has_warnings: bool,
    /// Whether every failure is one that may pass.
    may_retry: bool,
}

/// Answers a request by what became of its parts; `ended` is how reading the body ended.
///
/// # Errors
/// How reading the body ended, if there is nothing else to tell.
pub(crate) fn respond(
    base_url: &str,
    items: Vec<Item>,
    ended: Result<(), Error>,
) -> Result<Response<Body>, Error> {
    if items.is_empty() {
        return Err(ended.err().unwrap_or_else(|| Error::Body("the body holds no parts".into())));
    }
    let mut module = Module { may_retry: true, ..Module::default() };
    for item in items {
        module.add(base_url, item);
    }
    let mut response = Response::builder();
    if let Err(error) = ended {
        module.other.push(failure(None, PROCESSING_FAILURE));
        module.may_retry = false;
        // The rest of the body is not read: nothing else can follow on this connection.
        response = response.header(WARNING, warning(&error.to_string())).header(CONNECTION, "close");
    }
    let status = module.status();
    if status == StatusCode::SERVICE_UNAVAILABLE {
        response = response.header(RETRY_AFTER, "5");
    }
    let mut text = Vec::new();
    json::write(&module.into_attributes(), &mut text);
    let response = response.status(status).header(CONTENT_TYPE, "application/dicom+json");
    content::finish(response.header(CONTENT_LENGTH, text.len()), Body::from(text))
}

impl Module {
    fn add(&mut self, base_url: &str, item: Item) {
        let outcome = match item {
            Item::Outcome(outcome) => outcome,
            Item::NotDicom => {
                self.may_retry = false;
                return self.other.push(failure(None, CANNOT_UNDERSTAND));
            }
        };
        match (outcome.result, outcome.identity) {
            (Ok(stored), Some(identity)) => self.add_stored(base_url, &identity, !stored.warnings.is_empty()),
            // Stored without an identity: the archive never says so.
            (Ok(_), None) => self.other.push(failure(None, PROCESSING_FAILURE)),
            (Err(refusal), identity) => {
                self.may_retry &= matches!(refusal, Refusal::NoSpace | Refusal::Failed(_));
                let list = if identity.is_some() { &mut self.failed } else { &mut self.other };
                list.push(failure(identity.as_ref(), failure_reason(&refusal)));
            }
        }
    }

    fn add_stored(&mut self, base_url: &str, identity: &Identity, has_warnings: bool) {
        let Identity { study, series, instance, .. } = identity;
        let study_url = format!("{base_url}/studies/{study}");
        let mut item = reference(identity);
        let url = format!("{study_url}/series/{series}/instances/{instance}");
        item.insert(RETRIEVE_URL, Attribute::text(b"UR", url));
        if has_warnings {
            item.insert(WARNING_REASON, Attribute::number(b"US", DOES_NOT_MATCH));
        }
        self.has_warnings |= has_warnings;
        let is_same_study = self.stored.is_empty() || self.study_url.as_ref() == Some(&study_url);
        self.study_url = is_same_study.then_some(study_url);
        self.stored.push(item);
    }

    /// The status by Table 10.5.3-1.
    fn status(&self) -> StatusCode {
        let has_failures = !self.failed.is_empty() || !self.other.is_empty();
        match (self.stored.is_empty(), has_failures) {
            (true, _) if self.may_retry => StatusCode::SERVICE_UNAVAILABLE,
            (true, _) => StatusCode::CONFLICT,
            (false, false) if !self.has_warnings => StatusCode::OK,
            (false, _) => StatusCode::ACCEPTED,
        }
    }

    fn into_attributes(self) -> Attributes {
        let url = Attribute::text(b"UR", self.study_url.unwrap_or_default());
        let mut attributes = Attributes::from([(RETRIEVE_URL, url)]);
        for (tag, items) in [
            (FAILED_SOP_SEQUENCE, self.failed),
            (REFERENCED_SOP_SEQUENCE, self.stored),
            (OTHER_FAILURES_SEQUENCE, self.other),
        ] {
            if !items.is_empty() {
                let values = items.into_iter().map(Value::Item).collect();
                attributes.insert(tag, Attribute { vr: Vr(*b"SQ"), values });
            }
        }
        attributes
    }
}

fn failure(identity: Option<&Identity>, reason: u16) -> Attributes {
    let mut item = identity.map(reference).unwrap_or_default();
    item.insert(FAILURE_REASON, Attribute::number(b"US", reason));
    item
}

/// The SOP Instance Reference Macro (PS3.3 Table 10-11).
fn reference(identity: &Identity) -> Attributes {
    Attributes::from([
        (REFERENCED_SOP_CLASS_UID, Attribute::text(b"UI", identity.sop_class.as_str())),
        (REFERENCED_SOP_INSTANCE_UID, Attribute::text(b"UI", identity.instance.as_str())),
    ])
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::archive::store::Stored;
    use crate::dicom::failure::{Failure, Warning};

    fn identity(study: &str) -> Option<Identity> {
        Some(Identity {
            study: study.parse().unwrap(),
            series: "2".parse().unwrap(),
            instance: "3".parse().unwrap(),
            sop_class: "1.2.840.10008.5.1.4.1.1.7".into(),
        })
    }

    fn stored(warnings: usize) -> Item {
        let warning = Warning { tag: Tag(0), reason: String::new() };
        let stored = Stored { was_known: false, has_replaced: false, warnings: vec![warning; warnings] };
        Item::Outcome(Outcome { identity: identity("1"), result: Ok(stored) })
    }

    fn refused(refusal: Refusal) -> Item {
        Item::Outcome(Outcome { identity: identity("1"), result: Err(refusal) })
    }

    fn unreadable() -> Item {
        Item::Outcome(Outcome { identity: None, result: Err(Failure::NotDicom.into()) })
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
            (vec![Item::NotDicom], Ok(()), 409),
            (vec![refused(Refusal::Different), refused(Refusal::NoSpace)], Ok(()), 409),
            (vec![refused(Refusal::NoSpace)], Ok(()), 503),
        ] {
            assert_eq!(respond("", items, ended).unwrap().status(), status);
        }
        assert!(matches!(respond("", vec![], Ok(())), Err(Error::Body(_))));
        assert!(matches!(respond("", vec![], Err(Error::Method)), Err(Error::Method)));
    }

    #[test]
    fn each_part_is_accounted_for() {
        let mut module = Module::default();
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
