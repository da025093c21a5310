//! Records in other forms: JSON for clients, the XML message of PS3.15 §A.5.1, and syslog (RFC 5424, PS3.15
//! §A.6).

use std::fmt::Write;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Value, json};
use time::format_description::well_known::Rfc3339;
use time::{Date, Month, OffsetDateTime};

use crate::audit::event::{AuditEvent, AuditProtocol, AuditTransfer, AuditUser};
use crate::audit::record::AuditRecord;

/// The role of the one who gives: EV (110153, DCM, "Source Role ID").
const SOURCE: (&str, &str) = ("110153", "Source Role ID");
/// The role of the one who takes: EV (110152, DCM, "Destination Role ID").
const DESTINATION: (&str, &str) = ("110152", "Destination Role ID");
/// The role of a program: EV (110150, DCM, "Application").
const APPLICATION: (&str, &str) = ("110150", "Application");
/// The priority of syslog messages: facility 10 (security), severity 5 (notice).
const PRIORITY: u8 = 10 * 8 + 5;

/// A record as JSON: as it is stored, with the time as in RFC 3339 and the code of the event.
pub fn json(record: &AuditRecord) -> Value {
    let mut value = serde_json::to_value(record).unwrap_or_default();
    value["time"] = json!(utc(record.time));
    value["code"] = json!(record.entry.event.code());
    value
}

/// A time in milliseconds since 1970 UTC as in RFC 3339.
pub fn utc(at: i64) -> String {
    let time = OffsetDateTime::from_unix_timestamp(at.div_euclid(1000)).unwrap_or(OffsetDateTime::UNIX_EPOCH);
    let (date, millis) = (time.date(), at.rem_euclid(1000));
    let (hour, minute, second) = time.to_hms();
    let month = u8::from(date.month());
    format!("{:04}-{month:02}-{:02}T{hour:02}:{minute:02}:{second:02}.{millis:03}Z", date.year(), date.day())
}

/// A time in milliseconds since 1970 UTC; of a date its beginning, or the beginning of the next day.
pub fn time(text: &str, is_end: bool) -> Option<i64> {
    if let Ok(time) = OffsetDateTime::parse(text, &Rfc3339) {
        return i64::try_from(time.unix_timestamp_nanos() / 1_000_000).ok();
    }
    let (year, rest) = text.split_once('-')?;
    let (month, day) = rest.split_once('-')?;
    let is_plain = (year.len(), month.len(), day.len()) == (4, 2, 2);
    let month = Month::try_from(month.parse::<u8>().ok()?).ok()?;
    let date =
        Date::from_calendar_date(year.parse().ok()?, month, day.parse().ok()?).ok().filter(|_| is_plain)?;
    let date = if is_end { date.next_day()? } else { date };
    Some(date.midnight().assume_utc().unix_timestamp() * 1000)
}

/// A record as a message of syslog, without a line end.
pub fn syslog(record: &AuditRecord, process_id: u32) -> String {
    let host: String = record.source.chars().filter(char::is_ascii_graphic).collect();
    let host = if host.is_empty() { "-" } else { &host };
    let (time, xml) = (utc(record.time), xml(record));
    format!("<{PRIORITY}>1 {time} {host} cuspid {process_id} DICOM+RFC3881 - \u{feff}{xml}")
}

/// A record as an audit message of PS3.15 §A.5.1, in one line.
pub fn xml(record: &AuditRecord) -> String {
    let entry = &record.entry;
    let mut xml = String::from("<?xml version=\"1.0\" encoding=\"UTF-8\"?><AuditMessage>");
    let (action, outcome) = (entry.action.letter(), u8::from(entry.outcome));
    let _ = write!(
        xml,
        "<EventIdentification EventActionCode=\"{action}\" EventDateTime=\"{}\" EventOutcomeIndicator=\"{outcome}\">",
        utc(record.time)
    );
    code(&mut xml, "EventID", entry.event.code(), "DCM", entry.event.meaning());
    if let Some(event_type) = entry.event_type {
        let (value, meaning) = event_type.code();
        code(&mut xml, "EventTypeCode", value, "DCM", meaning);
    }
    xml.push_str("</EventIdentification>");
    participants(&mut xml, record);
    let source = escaped(&record.source);
    let _ = write!(
        xml,
        "<AuditSourceIdentification AuditSourceID=\"{source}\" AuditEnterpriseSiteID=\"{}\">\
         <AuditSourceTypeCode csd-code=\"4\"/></AuditSourceIdentification>",
        escaped(&record.tenant)
    );
    objects(&mut xml, record);
    xml.push_str("</AuditMessage>");
    xml
}

/// The active participants: the one who requested the event, this server, and a third party.
fn participants(xml: &mut String, record: &AuditRecord) {
    let (user, server) = (&record.entry.user, &record.source);
    let this_server = AuditUser {
        user: server.clone(),
        address: String::new(),
        rights: vec![],
        protocol: AuditProtocol::Server,
    };
    match (record.entry.event, &record.entry.destination) {
        (AuditEvent::ApplicationActivity, _) => participant(xml, &this_server, false, Some(APPLICATION)),
        (AuditEvent::BeginTransferring | AuditEvent::InstancesTransferred, Some(title)) => {
            participant(xml, &this_server, false, Some(SOURCE));
            let target = AuditUser { user: title.clone(), ..AuditUser::unknown("", AuditProtocol::Dimse) };
            participant(xml, &target, false, Some(DESTINATION));
            participant(xml, user, true, None);
        }
        (AuditEvent::BeginTransferring | AuditEvent::InstancesTransferred, None) => {
            let is_import = record.entry.transfer == Some(AuditTransfer::Received);
            let (giver, taker) = if is_import { (user, &this_server) } else { (&this_server, user) };
            participant(xml, giver, is_import, Some(SOURCE));
            participant(xml, taker, !is_import, Some(DESTINATION));
        }
        (AuditEvent::Query, _) => {
            participant(xml, user, true, Some(SOURCE));
            participant(xml, &this_server, false, Some(DESTINATION));
        }
        _ => {
            participant(xml, user, true, None);
            participant(xml, &this_server, false, None);
        }
    }
}

fn participant(xml: &mut String, user: &AuditUser, is_requestor: bool, role: Option<(&str, &str)>) {
    // UserID is required; a client without authentication is known by its address.
    let id = [user.user.as_str(), &user.address, "unknown"].into_iter().find(|text| !text.is_empty());
    let id = escaped(id.unwrap_or_default());
    let _ = write!(xml, "<ActiveParticipant UserID=\"{id}\"");
    if user.protocol == AuditProtocol::Dimse && !user.user.is_empty() {
        let _ = write!(xml, " AlternativeUserID=\"AETITLE={id}\"");
    }
    let _ = write!(xml, " UserIsRequestor=\"{is_requestor}\"");
    if !user.address.is_empty() {
        let address = escaped(&user.address);
        // Type 2: an IP address.
        let _ = write!(xml, " NetworkAccessPointID=\"{address}\" NetworkAccessPointTypeCode=\"2\"");
    }
    xml.push('>');
    if let Some((value, meaning)) = role {
        code(xml, "RoleIDCode", value, "DCM", meaning);
    }
    for right in &user.rights {
        code(xml, "RoleIDCode", right, "99CUSPID", right);
    }
    xml.push_str("</ActiveParticipant>");
}

/// The participant objects: the study, the patient, the query, and the log.
fn objects(xml: &mut String, record: &AuditRecord) {
    let entry = &record.entry;
    if let Some(study) = &entry.study {
        let study = escaped(study);
        object_begin(xml, &study, "2", "3", ("110180", "DCM", "Study Instance UID"));
        let _ = write!(xml, "<ParticipantObjectName>{study}</ParticipantObjectName>");
        if let Some(detail) = &entry.detail {
            object_detail(xml, "detail", detail);
        }
        if let Some(instances) = entry.instances {
            let _ = write!(
                xml,
                "<ParticipantObjectDescription><SOPClass NumberOfInstances=\"{instances}\"/></ParticipantObjectDescription>"
            );
        }
        xml.push_str("</ParticipantObjectIdentification>");
    }
    if let Some(patient) = &entry.patient {
        let patient = escaped(patient);
        object_begin(xml, &patient, "1", "1", ("2", "RFC-3881", "Patient Number"));
        let _ = write!(xml, "<ParticipantObjectName>{patient}</ParticipantObjectName>");
        xml.push_str("</ParticipantObjectIdentification>");
    }
    if let Some(query) = &entry.query {
        object_begin(xml, "query", "2", "3", ("110181", "DCM", "SOP Class UID"));
        let query = STANDARD.encode(query);
        let _ = write!(xml, "<ParticipantObjectQuery>{query}</ParticipantObjectQuery>");
        xml.push_str("</ParticipantObjectIdentification>");
    }
    let (id, name) = match entry.event {
        AuditEvent::AuditLogUsed => ("/audit", "Security Audit Log"),
        AuditEvent::SecurityAlert => ("/", "Cuspid"),
        _ => return,
    };
    object_begin(xml, id, "2", "13", ("12", "RFC-3881", "URI"));
    let _ = write!(xml, "<ParticipantObjectName>{name}</ParticipantObjectName>");
    if let Some(detail) = &entry.detail {
        object_detail(xml, "Alert Description", detail);
    }
    xml.push_str("</ParticipantObjectIdentification>");
}

fn object_begin(xml: &mut String, id: &str, kind: &str, role: &str, id_type: (&str, &str, &str)) {
    let _ = write!(
        xml,
        "<ParticipantObjectIdentification ParticipantObjectID=\"{id}\" ParticipantObjectTypeCode=\"{kind}\" \
         ParticipantObjectTypeCodeRole=\"{role}\">"
    );
    code(xml, "ParticipantObjectIDTypeCode", id_type.0, id_type.1, id_type.2);
}

fn object_detail(xml: &mut String, name: &str, value: &str) {
    let value = STANDARD.encode(value);
    let _ = write!(xml, "<ParticipantObjectDetail type=\"{name}\" value=\"{value}\"/>");
}

fn code(xml: &mut String, element: &str, value: &str, system: &str, meaning: &str) {
    let (value, meaning) = (escaped(value), escaped(meaning));
    let _ = write!(
        xml,
        "<{element} csd-code=\"{value}\" codeSystemName=\"{system}\" originalText=\"{meaning}\"/>"
    );
}

/// A text for an attribute or an element. Characters that XML does not allow become spaces.
fn escaped(text: &str) -> String {
    let mut escaped = String::with_capacity(text.len());
    for character in text.chars() {
        match character {
            '&' => escaped.push_str("&amp;"),
            '<' => escaped.push_str("&lt;"),
            '>' => escaped.push_str("&gt;"),
            '"' => escaped.push_str("&quot;"),
            '\u{fffe}' | '\u{ffff}' => escaped.push(' '),
            _ if character.is_control() => escaped.push(' '),
            _ => escaped.push(character),
        }
    }
    escaped
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::audit::event::{AuditAction, AuditEntry, AuditOutcome};

    #[test]
    fn times_are_dates_or_of_rfc_3339() {
        assert_eq!(time("2024-02-29", false), Some(1_709_164_800_000));
        assert_eq!(time("2024-02-29", true), Some(1_709_251_200_000));
        assert_eq!(time("2024-02-29T12:34:56.007Z", true), Some(1_709_210_096_007));
        assert_eq!(time("2024-02-29T21:34:56.007+09:00", false), Some(1_709_210_096_007));
        for wrong in ["", "2024", "2024-2-29", "2023-02-29", "2024-02-29T12:34", "now"] {
            assert_eq!(time(wrong, false), None, "{wrong}");
        }
    }

    #[test]
    fn a_message_has_the_participants_and_objects_of_the_standard_and_escapes_texts() {
        let user = AuditUser {
            user: "dr. \"A\" & <B>".into(),
            address: "192.0.2.7".into(),
            rights: vec!["read".into()],
            protocol: AuditProtocol::Dimse,
        };
        let record = AuditRecord {
            chain: "0".repeat(32),
            number: 1,
            previous: String::new(),
            time: 1_709_210_096_007,
            tenant: "clinic".into(),
            source: "CUSPID@host".into(),
            entry: AuditEntry {
                outcome: AuditOutcome::MinorFailure,
                study: Some("1.2.3".into()),
                patient: Some("P-1".into()),
                transfer: Some(AuditTransfer::Sent),
                destination: Some("WS".into()),
                instances: Some(7),
                query: Some("x".into()),
                ..AuditEntry::of(AuditEvent::InstancesTransferred, AuditAction::R, user)
            },
        };
        let xml = xml(&record);
        for part in [
            "EventActionCode=\"R\" EventDateTime=\"2024-02-29T12:34:56.007Z\" EventOutcomeIndicator=\"4\"",
            "<EventID csd-code=\"110104\" codeSystemName=\"DCM\" originalText=\"DICOM Instances Transferred\"/>",
            "UserID=\"dr. &quot;A&quot; &amp; &lt;B&gt;\" AlternativeUserID=\"AETITLE=dr. ",
            "UserIsRequestor=\"true\" NetworkAccessPointID=\"192.0.2.7\" NetworkAccessPointTypeCode=\"2\"",
            "<ActiveParticipant UserID=\"WS\" AlternativeUserID=\"AETITLE=WS\" UserIsRequestor=\"false\">\
             <RoleIDCode csd-code=\"110152\"",
            "AuditSourceID=\"CUSPID@host\" AuditEnterpriseSiteID=\"clinic\"",
            "ParticipantObjectID=\"1.2.3\" ParticipantObjectTypeCode=\"2\" ParticipantObjectTypeCodeRole=\"3\"",
            "ParticipantObjectID=\"P-1\" ParticipantObjectTypeCode=\"1\" ParticipantObjectTypeCodeRole=\"1\"",
            "<SOPClass NumberOfInstances=\"7\"/>",
            "<ParticipantObjectQuery>eA==</ParticipantObjectQuery>",
        ] {
            assert!(xml.contains(part), "{part}\n{xml}");
        }
        let syslog = syslog(&record, 12);
        let head = "<85>1 2024-02-29T12:34:56.007Z CUSPID@host cuspid 12 DICOM+RFC3881 - \u{feff}<?xml";
        assert!(syslog.starts_with(head) && !syslog.contains('\n'), "{syslog}");
        let json = json(&record);
        assert_eq!((&json["code"], &json["user"]), (&json!("110104"), &json!("dr. \"A\" & <B>")));
    }
}
