//! Command sets, read and written as per PS3.7 §6.3.1: elements of group 0000 in implicit VR little endian.

use crate::config::StorePriority;
use crate::dicom::attributes::Tag;
use crate::dicom::tags;
use crate::dimse::pdu::Violation;

/// The maximum length of a command set; real ones have a few hundred bytes.
pub const MAX_COMMAND_BYTES: usize = 1 << 16;

const NO_DATA_SET: u16 = 0x0101;
const DATA_SET: u16 = 0x0001;
const RESPONSE: u16 = 0x8000;

/// The operation that a message is of: Command Field (0000,0100) without the bit of responses (PS3.7 §E.1).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum DimseOperation {
    /// C-STORE.
    Store,
    /// C-GET.
    Get,
    /// C-FIND.
    Find,
    /// C-MOVE.
    Move,
    /// C-ECHO.
    Echo,
    /// N-EVENT-REPORT.
    EventReport,
    /// N-ACTION.
    Action,
    /// C-CANCEL.
    Cancel,
    /// Any other operation.
    Other(u16),
}

impl DimseOperation {
    const KNOWN: [(u16, Self); 8] = [
        (0x0001, Self::Store),
        (0x0010, Self::Get),
        (0x0020, Self::Find),
        (0x0021, Self::Move),
        (0x0030, Self::Echo),
        (0x0100, Self::EventReport),
        (0x0130, Self::Action),
        (0x0FFF, Self::Cancel),
    ];

    fn of_field(field: u16) -> Self {
        let known = Self::KNOWN.iter().find(|(known, _)| *known == field);
        known.map_or(Self::Other(field), |(_, operation)| *operation)
    }

    fn field(self) -> u16 {
        match self {
            Self::Other(field) => field,
            _ => Self::KNOWN.iter().find(|(_, known)| *known == self).map_or(0, |(field, _)| *field),
        }
    }
}

/// A DIMSE message.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum DimseMessage {
    /// A request.
    Request(DimseRequest),
    /// A response.
    Response(DimseResponse),
}

/// A DIMSE request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DimseRequest {
    /// The operation.
    pub operation: DimseOperation,
    /// Message ID (0000,0110); of a C-CANCEL-RQ, which has none, Message ID Being Responded To (0000,0120).
    pub message_id: u16,
    /// Affected SOP Class UID (0000,0002) or Requested SOP Class UID (0000,0003), without padding.
    pub sop_class: Option<String>,
    /// Affected SOP Instance UID (0000,1000) or Requested SOP Instance UID (0000,1001), without padding.
    pub sop_instance: Option<String>,
    /// Move Destination (0000,0600), without padding.
    pub move_destination: Option<String>,
    /// Action Type ID (0000,1008).
    pub action_type: Option<u16>,
    /// Whether a data set follows.
    pub has_data_set: bool,
}

/// A DIMSE response of a peer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct DimseResponse {
    /// The operation.
    pub operation: DimseOperation,
    /// Message ID Being Responded To (0000,0120).
    pub message_id: u16,
    /// Status (0000,0900).
    pub status: u16,
    /// The numbers of sub-operations; 0 for those that the response does not have.
    pub counts: SubOperations,
    /// Whether a data set follows.
    pub has_data_set: bool,
}

/// The status of a response (PS3.7 §C).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Status {
    /// Status (0000,0900).
    pub code: u16,
    /// Error Comment (0000,0902), cut to its 64 characters; empty for none. Holds no patient data.
    pub comment: String,
    /// Offending Element (0000,0901).
    pub offending: Option<Tag>,
}

impl Status {
    /// Status 0000H.
    pub const SUCCESS: Self = Self { code: 0, comment: String::new(), offending: None };

    /// A status with a comment.
    pub fn new(code: u16, comment: impl Into<String>) -> Self {
        Self { code, comment: comment.into(), offending: None }
    }
}

/// The numbers of sub-operations of a C-GET or C-MOVE (PS3.7 §9.1.3, §9.1.4).
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct SubOperations {
    /// Sub-operations that are still to be carried out; `None` in a final response that is not of a
    /// cancellation, where the number is not allowed.
    pub remaining: Option<u16>,
    /// Successful sub-operations.
    pub completed: u16,
    /// Sub-operations that failed.
    pub failed: u16,
    /// Sub-operations that ended with a warning.
    pub warning: u16,
}

/// Reads a message, in time and memory linear in `bytes`. Other elements are skipped.
///
/// # Errors
/// [`Violation::Command`] if `bytes` are no sequence of elements of group 0000, or lack a Command Field, the
/// Message ID or, of a response, the status.
pub fn read(bytes: &[u8]) -> Result<DimseMessage, Violation> {
    let (mut field, mut message_id, mut responded_to, mut status) = (None, None, None, None);
    let (mut sop_class, mut sop_instance, mut move_destination) = (None, None, None);
    let (mut data_set_type, mut action_type, mut counts) = (NO_DATA_SET, None, SubOperations::default());
    let mut rest = bytes;
    while !rest.is_empty() {
        let (tag, value, after) = next_element(rest).ok_or(Violation::Command)?;
        match tag {
            tags::COMMAND_FIELD => field = Some(number(value)?),
            tags::MESSAGE_ID => message_id = Some(number(value)?),
            tags::MESSAGE_ID_BEING_RESPONDED_TO => responded_to = Some(number(value)?),
            tags::STATUS => status = Some(number(value)?),
            tags::COMMAND_DATA_SET_TYPE => data_set_type = number(value)?,
            tags::ACTION_TYPE_ID => action_type = Some(number(value)?),
            tags::AFFECTED_SOP_CLASS_UID | tags::REQUESTED_SOP_CLASS_UID => sop_class = text(value),
            tags::AFFECTED_SOP_INSTANCE_UID | tags::REQUESTED_SOP_INSTANCE_UID => sop_instance = text(value),
            tags::MOVE_DESTINATION => move_destination = text(value),
            tags::NUMBER_OF_REMAINING_SUBOPERATIONS => counts.remaining = Some(number(value)?),
            tags::NUMBER_OF_COMPLETED_SUBOPERATIONS => counts.completed = number(value)?,
            tags::NUMBER_OF_FAILED_SUBOPERATIONS => counts.failed = number(value)?,
            tags::NUMBER_OF_WARNING_SUBOPERATIONS => counts.warning = number(value)?,
            _ => {}
        }
        rest = after;
    }
    let field = field.ok_or(Violation::Command)?;
    let operation = DimseOperation::of_field(field & !RESPONSE);
    let has_data_set = data_set_type != NO_DATA_SET;
    if field & RESPONSE != 0 {
        let message_id = responded_to.ok_or(Violation::Command)?;
        let status = status.ok_or(Violation::Command)?;
        let response = DimseResponse { operation, message_id, status, counts, has_data_set };
        return Ok(DimseMessage::Response(response));
    }
    let message_id = match operation {
        DimseOperation::Cancel => responded_to.unwrap_or(0),
        _ => message_id.ok_or(Violation::Command)?,
    };
    Ok(DimseMessage::Request(DimseRequest {
        operation,
        message_id,
        sop_class,
        sop_instance,
        move_destination,
        action_type,
        has_data_set,
    }))
}

/// The tag and value of the first element, and the bytes after the element.
fn next_element(bytes: &[u8]) -> Option<(Tag, &[u8], &[u8])> {
    let ([0, 0, low, high, length @ ..], rest) = bytes.split_first_chunk::<8>()? else { return None };
    let (value, rest) = rest.split_at_checked(u32::from_le_bytes(*length) as usize)?;
    Some((Tag(u16::from_le_bytes([*low, *high]).into()), value, rest))
}

fn number(value: &[u8]) -> Result<u16, Violation> {
    value.try_into().map(u16::from_le_bytes).map_err(|_| Violation::Command)
}

fn text(value: &[u8]) -> Option<String> {
    let text = std::str::from_utf8(value).ok()?.trim_matches(['\0', ' ']);
    (!text.is_empty()).then(|| text.to_owned())
}

/// Writes the response to a request, without a data set.
pub fn write_response(request: &DimseRequest, status: &Status) -> Vec<u8> {
    write_full_response(request, status, None, false)
}

/// Writes the response to a request, with the numbers of sub-operations if it has some, and whether a data
/// set follows.
pub fn write_full_response(
    request: &DimseRequest,
    status: &Status,
    counts: Option<SubOperations>,
    has_data_set: bool,
) -> Vec<u8> {
    let mut command = CommandWriter::default();
    command.uid(tags::AFFECTED_SOP_CLASS_UID, request.sop_class.as_deref());
    command.number(tags::COMMAND_FIELD, request.operation.field() | RESPONSE);
    command.number(tags::MESSAGE_ID_BEING_RESPONDED_TO, request.message_id);
    command.data_set_type(has_data_set);
    command.number(tags::STATUS, status.code);
    if let Some(tag) = status.offending {
        let (group, element) = (tag.group().to_le_bytes(), tag.element().to_le_bytes());
        command.push(tags::OFFENDING_ELEMENT, &[group, element].concat(), 0);
    }
    if !status.comment.is_empty() {
        let is_plain = |character: &char| matches!(character, ' '..='~') && *character != '\\';
        let comment: String = status.comment.chars().filter(is_plain).take(64).collect();
        command.push(tags::ERROR_COMMENT, comment.as_bytes(), b' ');
    }
    command.uid(tags::AFFECTED_SOP_INSTANCE_UID, request.sop_instance.as_deref());
    if let Some(action_type) = request.action_type {
        command.number(tags::ACTION_TYPE_ID, action_type);
    }
    if let Some(counts) = counts {
        if let Some(remaining) = counts.remaining {
            command.number(tags::NUMBER_OF_REMAINING_SUBOPERATIONS, remaining);
        }
        command.number(tags::NUMBER_OF_COMPLETED_SUBOPERATIONS, counts.completed);
        command.number(tags::NUMBER_OF_FAILED_SUBOPERATIONS, counts.failed);
        command.number(tags::NUMBER_OF_WARNING_SUBOPERATIONS, counts.warning);
    }
    command.finish()
}

/// The C-MOVE for which an instance is sent.
#[derive(Debug, Clone)]
pub struct MoveOriginator {
    /// The AE title of the requestor of the C-MOVE.
    pub ae_title: String,
    /// The message ID of the C-MOVE-RQ.
    pub message_id: u16,
}

/// Writes a C-STORE-RQ (PS3.7 §9.3.1.1) for a SOP class and a SOP Instance UID.
pub fn write_store_request(
    message_id: u16,
    (sop_class, sop_instance): (&str, &str),
    priority: StorePriority,
    originator: Option<&MoveOriginator>,
) -> Vec<u8> {
    let mut command = CommandWriter::default();
    command.uid(tags::AFFECTED_SOP_CLASS_UID, Some(sop_class));
    command.number(tags::COMMAND_FIELD, DimseOperation::Store.field());
    command.number(tags::MESSAGE_ID, message_id);
    command.number(tags::PRIORITY, priority.code());
    command.data_set_type(true);
    command.uid(tags::AFFECTED_SOP_INSTANCE_UID, Some(sop_instance));
    if let Some(originator) = originator {
        let ae_title = originator.ae_title.as_bytes();
        command.push(tags::MOVE_ORIGINATOR_APPLICATION_ENTITY_TITLE, ae_title, b' ');
        command.number(tags::MOVE_ORIGINATOR_MESSAGE_ID, originator.message_id);
    }
    command.finish()
}

/// Writes a C-MOVE-RQ (PS3.7 §9.3.4.1) of medium priority.
pub fn write_move_request(message_id: u16, sop_class: &str, destination: &str) -> Vec<u8> {
    let mut command = CommandWriter::default();
    command.uid(tags::AFFECTED_SOP_CLASS_UID, Some(sop_class));
    command.number(tags::COMMAND_FIELD, DimseOperation::Move.field());
    command.number(tags::MESSAGE_ID, message_id);
    command.push(tags::MOVE_DESTINATION, destination.as_bytes(), b' ');
    command.number(tags::PRIORITY, 0);
    command.data_set_type(true);
    command.finish()
}

/// Writes a C-ECHO-RQ (PS3.7 §9.3.5.1).
pub fn write_echo_request(message_id: u16, sop_class: &str) -> Vec<u8> {
    let mut command = CommandWriter::default();
    command.uid(tags::AFFECTED_SOP_CLASS_UID, Some(sop_class));
    command.number(tags::COMMAND_FIELD, DimseOperation::Echo.field());
    command.number(tags::MESSAGE_ID, message_id);
    command.data_set_type(false);
    command.finish()
}

/// Writes an N-EVENT-REPORT-RQ (PS3.7 §10.3.1.1) with a data set.
pub fn write_event_report(message_id: u16, sop_class: &str, sop_instance: &str, event_type: u16) -> Vec<u8> {
    let mut command = CommandWriter::default();
    command.uid(tags::AFFECTED_SOP_CLASS_UID, Some(sop_class));
    command.number(tags::COMMAND_FIELD, DimseOperation::EventReport.field());
    command.number(tags::MESSAGE_ID, message_id);
    command.data_set_type(true);
    command.uid(tags::AFFECTED_SOP_INSTANCE_UID, Some(sop_instance));
    command.number(tags::EVENT_TYPE_ID, event_type);
    command.finish()
}

/// The elements of a command after the group length; they are pushed in the order of their tags.
#[derive(Default)]
struct CommandWriter(Vec<u8>);

impl CommandWriter {
    fn push(&mut self, tag: Tag, value: &[u8], padding: u8) {
        push(&mut self.0, tag, value, padding);
    }

    fn number(&mut self, tag: Tag, number: u16) {
        self.push(tag, &number.to_le_bytes(), 0);
    }

    fn uid(&mut self, tag: Tag, uid: Option<&str>) {
        if let Some(uid) = uid {
            self.push(tag, uid.as_bytes(), 0);
        }
    }

    fn data_set_type(&mut self, has_data_set: bool) {
        self.number(tags::COMMAND_DATA_SET_TYPE, if has_data_set { DATA_SET } else { NO_DATA_SET });
    }

    fn finish(mut self) -> Vec<u8> {
        let mut command = Vec::with_capacity(12 + self.0.len());
        push(&mut command, tags::COMMAND_GROUP_LENGTH, &(self.0.len() as u32).to_le_bytes(), 0);
        command.append(&mut self.0);
        command
    }
}

fn push(elements: &mut Vec<u8>, tag: Tag, value: &[u8], padding: u8) {
    let is_odd = value.len() % 2 == 1;
    let length = value.len() as u32 + u32::from(is_odd);
    elements.extend_from_slice(&tag.group().to_le_bytes());
    elements.extend_from_slice(&tag.element().to_le_bytes());
    elements.extend_from_slice(&length.to_le_bytes());
    elements.extend_from_slice(value);
    if is_odd {
        elements.push(padding);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn elements(elements: &[(u32, &[u8])]) -> Vec<u8> {
        let mut bytes = Vec::new();
        for (element, value) in elements {
            push(&mut bytes, Tag(*element), value, 0);
        }
        bytes
    }

    const STORE: &[(u32, &[u8])] = &[
        (0x0000, &[0, 0, 0, 0]),
        (0x0002, b"1.2.840.10008.5.1.4.1.1.2"),
        (0x0100, &[1, 0]),
        (0x0110, &[7, 0]),
        (0x0700, &[0, 0]),
        (0x0800, &[0, 0]),
        (0x1000, b"1.2.3 "),
    ];

    #[test]
    fn a_store_request_is_read() {
        let expected = DimseRequest {
            operation: DimseOperation::Store,
            message_id: 7,
            sop_class: Some("1.2.840.10008.5.1.4.1.1.2".into()),
            sop_instance: Some("1.2.3".into()),
            move_destination: None,
            action_type: None,
            has_data_set: true,
        };
        assert_eq!(read(&elements(STORE)), Ok(DimseMessage::Request(expected)));
    }

    #[test]
    fn what_is_written_is_read_again() {
        let DimseMessage::Request(request) = read(&elements(STORE)).unwrap() else { panic!() };
        for (status, has_data_set) in [(Status::SUCCESS, false), (Status::new(0xFF00, ""), true)] {
            let counts = SubOperations { remaining: Some(3), completed: 2, failed: 1, warning: 0 };
            let response = write_full_response(&request, &status, Some(counts), has_data_set);
            let expected = DimseResponse {
                operation: DimseOperation::Store,
                message_id: 7,
                status: status.code,
                counts,
                has_data_set,
            };
            assert_eq!(read(&response), Ok(DimseMessage::Response(expected)));
        }
        let DimseMessage::Request(request) = read(&write_move_request(4, "1.2", "ODD")).unwrap() else {
            panic!()
        };
        assert_eq!((request.operation, request.message_id), (DimseOperation::Move, 4));
        assert_eq!(request.move_destination.as_deref(), Some("ODD"));
        let originator = MoveOriginator { ae_title: "MOVER".into(), message_id: 9 };
        let request = write_store_request(5, ("1.2", "1.3"), StorePriority::Low, Some(&originator));
        let DimseMessage::Request(request) = read(&request).unwrap() else { panic!() };
        assert_eq!((request.operation, request.message_id), (DimseOperation::Store, 5));
        assert_eq!(request.sop_instance.as_deref(), Some("1.3"));
    }

    #[test]
    fn a_cancellation_has_the_id_of_what_it_cancels() {
        let cancel = elements(&[(0x0100, &[0xFF, 0x0F]), (0x0120, &[4, 0]), (0x0800, &[1, 1])]);
        let DimseMessage::Request(request) = read(&cancel).unwrap() else { panic!() };
        assert_eq!((request.operation, request.message_id), (DimseOperation::Cancel, 4));
    }

    #[test]
    fn what_is_no_request_is_refused() {
        for (bytes, what) in [
            (elements(&[]), "empty"),
            (elements(&[(0x0110, &[1, 0])]), "without a command field"),
            (elements(&[(0x0100, &[1, 0])]), "without a message id"),
            (elements(&[(0x0100, &[1, 128]), (0x0120, &[1, 0])]), "a response without a status"),
            (elements(&[(0x0100, &[1, 128]), (0x0900, &[0, 0])]), "a response to nothing"),
            (elements(&[(0x0100, &[1]), (0x0110, &[1, 0, 0, 0])]), "a long number"),
            ([elements(STORE), vec![8, 0, 0, 0, 0, 0, 0, 0]].concat(), "group 0008"),
            (vec![0, 0, 2, 0, 255, 255, 255, 255], "an undefined length"),
        ] {
            assert_eq!(read(&bytes), Err(Violation::Command), "{what}");
        }
        let whole = elements(STORE);
        for cut in whole.len() - 13..whole.len() {
            assert_eq!(read(&whole[..cut]), Err(Violation::Command), "cut at {cut}");
        }
    }

    #[test]
    fn a_response_has_even_lengths_and_at_most_64_characters_of_comment() {
        let DimseMessage::Request(request) = read(&elements(STORE)).unwrap() else { panic!() };
        let comment = format!("\u{e9}\\{}", "x".repeat(80));
        let status = Status { offending: Some(Tag(0x0020_000D)), ..Status::new(0xA900, comment) };
        let response = write_response(&request, &status);
        let (mut found, mut rest) = (Vec::new(), &response[..]);
        while !rest.is_empty() {
            let (tag, value, after) = next_element(rest).unwrap();
            assert_eq!(value.len() % 2, 0, "{tag:?}");
            found.push((tag, value.to_vec()));
            rest = after;
        }
        assert_eq!(
            found,
            [
                (tags::COMMAND_GROUP_LENGTH, (response.len() as u32 - 12).to_le_bytes().to_vec()),
                (tags::AFFECTED_SOP_CLASS_UID, b"1.2.840.10008.5.1.4.1.1.2\0".to_vec()),
                (tags::COMMAND_FIELD, vec![1, 0x80]),
                (tags::MESSAGE_ID_BEING_RESPONDED_TO, vec![7, 0]),
                (tags::COMMAND_DATA_SET_TYPE, vec![1, 1]),
                (tags::STATUS, vec![0, 0xA9]),
                (tags::OFFENDING_ELEMENT, vec![0x20, 0, 0x0D, 0]),
                (tags::ERROR_COMMENT, vec![b'x'; 64]),
                (tags::AFFECTED_SOP_INSTANCE_UID, b"1.2.3\0".to_vec()),
            ]
        );
    }

    proptest::proptest! {
        #[test]
        fn no_bytes_make_the_reader_panic(bytes in proptest::collection::vec(0u8..12, 0..200)) {
            let _ = read(&bytes);
        }
    }
}
