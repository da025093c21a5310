//! The entries of the audit log: the event, its participants and its objects (PS3.15 §A.5).

use serde::{Deserialize, Serialize};

/// The longest text of an entry but a query, in characters.
const MAX_TEXT_CHARS: usize = 256;
/// The longest query of an entry, in characters.
const MAX_QUERY_CHARS: usize = 4096;

/// An event of PS3.15 Table A.5.1-1 (EventID, context group 400).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum AuditEvent {
    /// §A.5.3.1: the server was started or stopped.
    ApplicationActivity,
    /// §A.5.3.2: the audit log was read.
    AuditLogUsed,
    /// §A.5.3.3: instances are about to be sent.
    BeginTransferring,
    /// §A.5.3.6: instances were viewed or deleted.
    InstancesAccessed,
    /// §A.5.3.7: instances were received or given out.
    InstancesTransferred,
    /// §A.5.3.8: a study was deleted.
    StudyDeleted,
    /// §A.5.3.10: a query was received.
    Query,
    /// §A.5.3.11: access was refused.
    SecurityAlert,
    /// §A.5.3.12: a user was authenticated.
    UserAuthentication,
}

impl AuditEvent {
    /// All events.
    pub const ALL: [Self; 9] = [
        Self::ApplicationActivity,
        Self::AuditLogUsed,
        Self::BeginTransferring,
        Self::InstancesAccessed,
        Self::InstancesTransferred,
        Self::StudyDeleted,
        Self::Query,
        Self::SecurityAlert,
        Self::UserAuthentication,
    ];

    /// The code, of the coding scheme DCM.
    pub const fn code(self) -> &'static str {
        match self {
            Self::ApplicationActivity => "110100",
            Self::AuditLogUsed => "110101",
            Self::BeginTransferring => "110102",
            Self::InstancesAccessed => "110103",
            Self::InstancesTransferred => "110104",
            Self::StudyDeleted => "110105",
            Self::Query => "110112",
            Self::SecurityAlert => "110113",
            Self::UserAuthentication => "110114",
        }
    }

    /// The meaning of the code.
    pub const fn meaning(self) -> &'static str {
        match self {
            Self::ApplicationActivity => "Application Activity",
            Self::AuditLogUsed => "Audit Log Used",
            Self::BeginTransferring => "Begin Transferring DICOM Instances",
            Self::InstancesAccessed => "DICOM Instances Accessed",
            Self::InstancesTransferred => "DICOM Instances Transferred",
            Self::StudyDeleted => "DICOM Study Deleted",
            Self::Query => "Query",
            Self::SecurityAlert => "Security Alert",
            Self::UserAuthentication => "User Authentication",
        }
    }

    /// The name in entries and in queries of the log.
    pub const fn name(self) -> &'static str {
        match self {
            Self::ApplicationActivity => "application-activity",
            Self::AuditLogUsed => "audit-log-used",
            Self::BeginTransferring => "begin-transferring",
            Self::InstancesAccessed => "instances-accessed",
            Self::InstancesTransferred => "instances-transferred",
            Self::StudyDeleted => "study-deleted",
            Self::Query => "query",
            Self::SecurityAlert => "security-alert",
            Self::UserAuthentication => "user-authentication",
        }
    }

    /// The event of a name or a code.
    pub fn find(text: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|event| text == event.name() || text == event.code())
    }
}

/// The kind of an event (EventTypeCode, context group 401).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum AuditEventType {
    /// The start of an application.
    Start,
    /// The end of an application.
    Stop,
    /// The first use of an access token.
    Login,
    /// A token or an AE title was refused.
    NodeAuthentication,
    /// An operation was refused for want of a right.
    RestrictedFunction,
    /// Others were given access to objects, or lost it.
    ObjectSecurity,
}

impl AuditEventType {
    /// The code, of the coding scheme DCM, and its meaning.
    pub const fn code(self) -> (&'static str, &'static str) {
        match self {
            Self::Start => ("110120", "Application Start"),
            Self::Stop => ("110121", "Application Stop"),
            Self::Login => ("110122", "Login"),
            Self::NodeAuthentication => ("110126", "Node Authentication"),
            Self::RestrictedFunction => ("110132", "Use of Restricted Function"),
            Self::ObjectSecurity => ("110138", "Object Security Attributes Changed"),
        }
    }
}

/// EventActionCode.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum AuditAction {
    /// Create.
    C,
    /// Read.
    R,
    /// Update.
    U,
    /// Delete.
    D,
    /// Execute.
    E,
}

impl AuditAction {
    /// The letter.
    pub const fn letter(self) -> &'static str {
        match self {
            Self::C => "C",
            Self::R => "R",
            Self::U => "U",
            Self::D => "D",
            Self::E => "E",
        }
    }
}

/// EventOutcomeIndicator.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(into = "u8", try_from = "u8")]
pub enum AuditOutcome {
    /// 0: success.
    Success,
    /// 4: a minor failure, as of a part, or of a request that was refused.
    MinorFailure,
    /// 8: a serious failure.
    SeriousFailure,
}

impl From<AuditOutcome> for u8 {
    fn from(outcome: AuditOutcome) -> Self {
        match outcome {
            AuditOutcome::Success => 0,
            AuditOutcome::MinorFailure => 4,
            AuditOutcome::SeriousFailure => 8,
        }
    }
}

impl TryFrom<u8> for AuditOutcome {
    type Error = &'static str;

    fn try_from(code: u8) -> Result<Self, Self::Error> {
        match code {
            0 => Ok(Self::Success),
            4 => Ok(Self::MinorFailure),
            8 => Ok(Self::SeriousFailure),
            _ => Err("an outcome is 0, 4 or 8"),
        }
    }
}

/// The way in which a caller reached the server.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum AuditProtocol {
    /// HTTP.
    Http,
    /// DIMSE.
    Dimse,
    /// None: the server itself, or a command on its machine.
    Server,
}

/// The direction of a transfer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum AuditTransfer {
    /// Instances came to the server.
    Received,
    /// Instances were given out.
    Sent,
}

/// The active participant on whose behalf an event took place.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct AuditUser {
    /// The subject of the access token, or the AE title; empty if the participant is not known.
    pub user: String,
    /// The network address; empty if there is none.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub address: String,
    /// The names of the rights.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub rights: Vec<String>,
    /// The way to the server.
    pub protocol: AuditProtocol,
}

impl AuditUser {
    /// A participant of whom only the address is known, if that is.
    pub fn unknown(address: &str, protocol: AuditProtocol) -> Self {
        Self { user: String::new(), address: address.to_owned(), rights: Vec::new(), protocol }
    }
}

/// An entry: one event.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct AuditEntry {
    /// The event.
    pub event: AuditEvent,
    /// The kind of the event.
    #[serde(rename = "type", default, skip_serializing_if = "Option::is_none")]
    pub event_type: Option<AuditEventType>,
    /// The action.
    pub action: AuditAction,
    /// The outcome.
    pub outcome: AuditOutcome,
    /// The participant who requested the event.
    #[serde(flatten)]
    pub user: AuditUser,
    /// The direction of a transfer.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub transfer: Option<AuditTransfer>,
    /// The AE title to which instances were sent, if not to the participant.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub destination: Option<String>,
    /// Study Instance UID.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub study: Option<String>,
    /// Patient ID of the study.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub patient: Option<String>,
    /// The query.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub query: Option<String>,
    /// The number of instances.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub instances: Option<u64>,
    /// Further details, without names of patients.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub detail: Option<String>,
}

impl AuditEntry {
    /// An entry of an event that succeeded, without objects.
    pub fn of(event: AuditEvent, action: AuditAction, user: AuditUser) -> Self {
        Self {
            event,
            event_type: None,
            action,
            outcome: AuditOutcome::Success,
            user,
            transfer: None,
            destination: None,
            study: None,
            patient: None,
            query: None,
            instances: None,
            detail: None,
        }
    }

    /// The entry with texts of a limited length and without control characters.
    pub(super) fn bounded(mut self) -> Self {
        let AuditUser { user, address, .. } = &mut self.user;
        let own = [Some(user), Some(address)];
        let others = [&mut self.destination, &mut self.study, &mut self.patient, &mut self.detail];
        for text in own.into_iter().chain(others.map(Option::as_mut)).flatten() {
            bound(text, MAX_TEXT_CHARS);
        }
        if let Some(query) = &mut self.query {
            bound(query, MAX_QUERY_CHARS);
        }
        self
    }
}

fn bound(text: &mut String, max_chars: usize) {
    if text.chars().any(char::is_control) || text.chars().nth(max_chars).is_some() {
        let plain = text.chars().map(|character| if character.is_control() { ' ' } else { character });
        *text = plain.take(max_chars).collect();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_event_is_found_by_its_name_and_its_code_and_is_written_by_its_name() {
        for event in AuditEvent::ALL {
            assert_eq!(AuditEvent::find(event.name()), Some(event));
            assert_eq!(AuditEvent::find(event.code()), Some(event));
            assert_eq!(serde_json::to_value(event).unwrap(), event.name());
        }
        assert_eq!(AuditEvent::find("110199"), None);
    }

    #[test]
    fn texts_from_outside_are_bounded() {
        let user = AuditUser::unknown("::1", AuditProtocol::Http);
        let entry = AuditEntry {
            query: Some("\u{e9}\0".repeat(MAX_QUERY_CHARS)),
            detail: Some("d".repeat(MAX_TEXT_CHARS + 1)),
            ..AuditEntry::of(AuditEvent::Query, AuditAction::E, user)
        };
        let bounded = entry.bounded();
        assert_eq!(bounded.query.unwrap(), "\u{e9} ".repeat(MAX_QUERY_CHARS / 2));
        assert_eq!(bounded.detail.unwrap().len(), MAX_TEXT_CHARS);
    }
}
