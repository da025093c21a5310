//! Command sets, read and written as per PS3.7 §6.3.1: elements of group 0000 in implicit VR little endian.

use crate::dicom::attributes::Tag;
use crate::dicom::tags;
use crate::dimse::pdu::Violation;

/// The maximum length of a command set; real ones have a few hundred bytes.
pub const MAX_COMMAND_BYTES: usize = 1 << 16;

const NO_DATA_SET: u16 = 0x0101;
const RESPONSE: u16 = 0x8000;

/// The operation that a request is for: Command Field (0000,0100) (PS3.7 §E.1).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum DimseOperation {
    /// C-STORE-RQ.
    Store,
    /// C-ECHO-RQ.
    Echo,
    /// C-CANCEL-RQ.
    Cancel,
    /// Any other request.
    Other(u16),
}

/// A DIMSE request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DimseRequest {
    /// The operation.
    pub operation: DimseOperation,
    /// Message ID (0000,0110); 0 for a C-CANCEL-RQ, which has none.
    pub message_id: u16,
    /// Affected SOP Class UID (0000,0002), without padding.
    pub sop_class: Option<String>,
    /// Affected SOP Instance UID (0000,1000), without padding.
    pub sop_instance: Option<String>,
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

/// Reads a request, in time and memory linear in `bytes`. Other elements are skipped.
///
/// # Errors
/// [`Violation::Command`] if `bytes` are no sequence of elements of group 0000, lack a Command Field or the
/// Message ID, or are a response.
pub fn read(bytes: &[u8]) -> Result<DimseRequest, Violation> {
    let (mut operation, mut message_id) = (None, None);
    let (mut sop_class, mut sop_instance) = (None, None);
    let mut data_set_type = NO_DATA_SET;
    let mut rest = bytes;
    while !rest.is_empty() {
        let (tag, value, after) = next_element(rest).ok_or(Violation::Command)?;
        match tag {
            tags::COMMAND_FIELD => operation = Some(number(value)?),
            tags::MESSAGE_ID => message_id = Some(number(value)?),
            tags::COMMAND_DATA_SET_TYPE => data_set_type = number(value)?,
            tags::AFFECTED_SOP_CLASS_UID => sop_class = text(value),
            tags::AFFECTED_SOP_INSTANCE_UID => sop_instance = text(value),
            _ => {}
        }
        rest = after;
    }
    let operation = match operation.ok_or(Violation::Command)? {
        0x0001 => DimseOperation::Store,
        0x0030 => DimseOperation::Echo,
        0x0FFF => DimseOperation::Cancel,
        response if response & RESPONSE != 0 => return Err(Violation::Command),
        other => DimseOperation::Other(other),
    };
    let message_id = match operation {
        DimseOperation::Cancel => 0,
        _ => message_id.ok_or(Violation::Command)?,
    };
    let has_data_set = data_set_type != NO_DATA_SET;
    Ok(DimseRequest { operation, message_id, sop_class, sop_instance, has_data_set })
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

/// Writes the response to a request.
pub fn write_response(request: &DimseRequest, status: &Status) -> Vec<u8> {
    let command_field = RESPONSE
        | match request.operation {
            DimseOperation::Store => 0x0001,
            DimseOperation::Echo => 0x0030,
            DimseOperation::Cancel => 0x0FFF,
            DimseOperation::Other(field) => field,
        };
    let mut elements = Vec::with_capacity(256);
    if let Some(uid) = &request.sop_class {
        push(&mut elements, tags::AFFECTED_SOP_CLASS_UID, uid.as_bytes(), 0);
    }
    push(&mut elements, tags::COMMAND_FIELD, &command_field.to_le_bytes(), 0);
    push(&mut elements, tags::MESSAGE_ID_BEING_RESPONDED_TO, &request.message_id.to_le_bytes(), 0);
    push(&mut elements, tags::COMMAND_DATA_SET_TYPE, &NO_DATA_SET.to_le_bytes(), 0);
    push(&mut elements, tags::STATUS, &status.code.to_le_bytes(), 0);
    if let Some(tag) = status.offending {
        let (group, element) = (tag.group().to_le_bytes(), tag.element().to_le_bytes());
        push(&mut elements, tags::OFFENDING_ELEMENT, &[group, element].concat(), 0);
    }
    if !status.comment.is_empty() {
        let is_plain = |character: &char| matches!(character, ' '..='~') && *character != '\\';
        let comment: String = status.comment.chars().filter(is_plain).take(64).collect();
        push(&mut elements, tags::ERROR_COMMENT, comment.as_bytes(), b' ');
    }
    if let Some(uid) = &request.sop_instance {
        push(&mut elements, tags::AFFECTED_SOP_INSTANCE_UID, uid.as_bytes(), 0);
    }
    let mut command = Vec::with_capacity(12 + elements.len());
    push(&mut command, tags::COMMAND_GROUP_LENGTH, &(elements.len() as u32).to_le_bytes(), 0);
    command.append(&mut elements);
    command
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
            has_data_set: true,
        };
        assert_eq!(read(&elements(STORE)), Ok(expected));
    }

    #[test]
    fn what_is_no_request_is_refused() {
        for (bytes, what) in [
            (elements(&[]), "empty"),
            (elements(&[(0x0110, &[1, 0])]), "without a command field"),
            (elements(&[(0x0100, &[1, 0])]), "without a message id"),
            (elements(&[(0x0100, &[1, 128]), (0x0110, &[1, 0])]), "a response"),
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
        let request = read(&elements(STORE)).unwrap();
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
