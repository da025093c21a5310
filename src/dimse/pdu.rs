//! Splits a stream of bytes into protocol data units, and the values of P-DATA-TF into chunks that share the
//! read buffer, as per PS3.8 §9.3. No input or output here: bytes in, pieces out.

use bytes::{Buf, Bytes, BytesMut};
use dicom_ul::pdu::{AbortRQServiceProviderReason, AbortRQSource, AssociationRQ, Pdu, read_pdu, write_pdu};

/// The maximum length of an A-ASSOCIATE-RQ: 128 contexts with 60 transfer syntaxes each fit twice over.
const MAX_ASSOCIATE_BYTES: u32 = 1 << 20;
const HEADER_BYTES: usize = 6;
const ASSOCIATE_RQ: u8 = 1;
const ASSOCIATE_AC: u8 = 2;
const ASSOCIATE_RJ: u8 = 3;
const P_DATA_TF: u8 = 4;
/// The bits of a message control header (PS3.8 §E.2).
const COMMAND: u8 = 1;
const LAST: u8 = 2;
/// The longest fragment that is sent, whatever the peer takes.
const MAX_SENT_BYTES: usize = 128 * 1024;

/// A piece of the stream of PDUs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum PduPiece {
    /// A complete A-ASSOCIATE-RQ with its header.
    Associate(Bytes),
    /// An A-RELEASE-RQ.
    Release,
    /// An A-ABORT.
    Abort,
    /// A complete A-ASSOCIATE-AC, A-ASSOCIATE-RJ or A-RELEASE-RP with its header: the answer to a request.
    Answer(Bytes),
    /// Some bytes of a presentation data value.
    Pdv(PdvChunk),
}

/// Some bytes of a presentation data value, which may arrive in any number of chunks (PS3.8 §9.3.5.1).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PdvChunk {
    /// Presentation context ID.
    pub context: u8,
    /// Whether the bytes are of a command; else of a data set.
    pub is_command: bool,
    /// Whether the command or data set ends after these bytes.
    pub is_last: bool,
    /// The bytes, a part of the read buffer; may be empty.
    pub bytes: Bytes,
}

/// A violation of the protocol by the peer.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[expect(missing_docs, reason = "the messages say it")]
pub enum Violation {
    #[error("PDU type {0:#04x} is unknown")]
    UnknownPdu(u8),
    #[error("a PDU came in a state in which its type is not allowed")]
    UnexpectedPdu,
    #[error("a P-DATA-TF of {length} bytes exceeds the {limit} agreed on (dimse.max_pdu_bytes)")]
    PduTooLong { length: u32, limit: u32 },
    #[error("a PDU or an item in it has an impossible length")]
    Length,
    #[error("presentation context {0} was not negotiated")]
    UnknownContext(u8),
    #[error("a message is interrupted by another")]
    Interleaved,
    #[error("the association request cannot be read")]
    Request,
    #[error("more operations are outstanding than was agreed on (dimse.max_operations)")]
    TooManyOperations,
    #[error("a command is longer than {0} bytes")]
    CommandTooLong(usize),
    #[error("the command set is malformed")]
    Command,
}

impl Violation {
    /// The source and reason of an A-ABORT for the violation (PS3.8 §9.3.8).
    pub fn abort_source(&self) -> AbortRQSource {
        AbortRQSource::ServiceProvider(match self {
            Self::UnknownPdu(_) => AbortRQServiceProviderReason::UnrecognizedPdu,
            Self::UnexpectedPdu => AbortRQServiceProviderReason::UnexpectedPdu,
            Self::Interleaved => AbortRQServiceProviderReason::UnexpectedPduParameter,
            Self::PduTooLong { .. } | Self::Length | Self::UnknownContext(_) | Self::Request => {
                AbortRQServiceProviderReason::InvalidPduParameter
            }
            // These are violations of PS3.7, not of the upper layer protocol.
            Self::CommandTooLong(_) | Self::Command | Self::TooManyOperations => {
                return AbortRQSource::ServiceUser;
            }
        })
    }
}

/// Splits the stream of PDUs; holds the position of the next byte in the current PDU.
#[derive(Debug)]
pub struct PduSplitter {
    max_pdu_bytes: u32,
    /// Bytes still to come of the P-DATA-TF, those of its current value included.
    pdu_left: u32,
    value: Option<ValueHeader>,
}

#[derive(Debug)]
struct ValueHeader {
    context: u8,
    is_command: bool,
    is_last: bool,
    left: u32,
}

impl PduSplitter {
    /// A splitter at the start of a stream, in which a P-DATA-TF may have at most `max_pdu_bytes` after its
    /// header.
    pub fn new(max_pdu_bytes: u32) -> Self {
        Self { max_pdu_bytes, pdu_left: 0, value: None }
    }

    /// Takes the next piece off the front of `buffer`; `None` when more bytes must come first.
    ///
    /// # Errors
    /// Lengths that are impossible or exceed their limit, before memory is allocated for them; types of PDU
    /// that do not exist.
    pub fn next(&mut self, buffer: &mut BytesMut) -> Result<Option<PduPiece>, Violation> {
        loop {
            if let Some(header) = &self.value {
                let wanted = header.left;
                return Ok(self.value_piece(buffer, wanted));
            }
            let has_moved =
                if self.pdu_left > 0 { self.begin_value(buffer)? } else { self.begin_pdu(buffer)? };
            match has_moved {
                SplitStep::Wait => return Ok(None),
                SplitStep::Go => {}
                SplitStep::Whole(piece) => return Ok(Some(piece)),
            }
        }
    }

    fn begin_pdu(&mut self, buffer: &mut BytesMut) -> Result<SplitStep, Violation> {
        let Some(header) = buffer.first_chunk::<HEADER_BYTES>() else { return Ok(SplitStep::Wait) };
        let [kind, _, length @ ..] = *header;
        let length = u32::from_be_bytes(length);
        match kind {
            P_DATA_TF if length > self.max_pdu_bytes => {
                return Err(Violation::PduTooLong { length, limit: self.max_pdu_bytes });
            }
            P_DATA_TF => {
                buffer.advance(HEADER_BYTES);
                self.pdu_left = length;
                return Ok(SplitStep::Go);
            }
            ASSOCIATE_RQ | ASSOCIATE_AC if length > MAX_ASSOCIATE_BYTES => return Err(Violation::Length),
            ASSOCIATE_RJ | 5..=7 if length != 4 => return Err(Violation::Length),
            ASSOCIATE_RQ..=ASSOCIATE_RJ | 5..=7 => {}
            _ => return Err(Violation::UnknownPdu(kind)),
        }
        let whole = HEADER_BYTES + length as usize;
        if buffer.len() < whole {
            return Ok(SplitStep::Wait);
        }
        let pdu = buffer.split_to(whole).freeze();
        Ok(SplitStep::Whole(match kind {
            ASSOCIATE_RQ => PduPiece::Associate(pdu),
            5 => PduPiece::Release,
            7 => PduPiece::Abort,
            _ => PduPiece::Answer(pdu),
        }))
    }

    fn begin_value(&mut self, buffer: &mut BytesMut) -> Result<SplitStep, Violation> {
        if (self.pdu_left as usize) < HEADER_BYTES {
            return Err(Violation::Length);
        }
        let Some(header) = buffer.first_chunk::<HEADER_BYTES>() else { return Ok(SplitStep::Wait) };
        let [length @ .., context, control] = *header;
        let length = u32::from_be_bytes(length);
        if length < 2 || length > self.pdu_left - 4 {
            return Err(Violation::Length);
        }
        buffer.advance(HEADER_BYTES);
        self.pdu_left -= HEADER_BYTES as u32;
        let (is_command, is_last) = (control & 1 != 0, control & 2 != 0);
        self.value = Some(ValueHeader { context, is_command, is_last, left: length - 2 });
        Ok(SplitStep::Go)
    }

    fn value_piece(&mut self, buffer: &mut BytesMut, wanted: u32) -> Option<PduPiece> {
        if buffer.is_empty() && wanted > 0 {
            return None;
        }
        let header = self.value.as_mut()?;
        let bytes = buffer.split_to(buffer.len().min(wanted as usize)).freeze();
        header.left -= bytes.len() as u32;
        self.pdu_left -= bytes.len() as u32;
        let is_whole = header.left == 0;
        let (context, is_command) = (header.context, header.is_command);
        let is_last = header.is_last && is_whole;
        if is_whole {
            self.value = None;
        }
        Some(PduPiece::Pdv(PdvChunk { context, is_command, is_last, bytes }))
    }
}

enum SplitStep {
    Wait,
    Go,
    Whole(PduPiece),
}

/// Reads an A-ASSOCIATE-RQ, ignoring items of undefined types, as PS3.8 §9.3.1 requires.
///
/// # Errors
/// [`Violation::Request`] if a length is wrong or something needed is missing.
pub fn read_associate(pdu: &Bytes) -> Result<AssociationRQ, Violation> {
    // dicom-ul refuses a request with an unknown item, so unknown items are removed first.
    let pdu = without_unknown_items(pdu).ok_or(Violation::Request)?;
    match read_pdu(&pdu[..], MAX_ASSOCIATE_BYTES, true) {
        Ok(Some(Pdu::AssociationRQ(request))) => Ok(request),
        _ => Err(Violation::Request),
    }
}

/// Reads the answer of an acceptor, ignoring items of undefined types.
///
/// # Errors
/// [`Violation::Request`] if a length is wrong or something needed is missing.
pub fn read_answer(pdu: &Bytes) -> Result<Pdu, Violation> {
    let is_acceptance = pdu.first() == Some(&ASSOCIATE_AC);
    let known = is_acceptance.then(|| without_unknown_items(pdu).ok_or(Violation::Request)).transpose()?;
    match read_pdu(known.as_deref().unwrap_or(pdu), MAX_ASSOCIATE_BYTES, true) {
        Ok(Some(answer)) => Ok(answer),
        _ => Err(Violation::Request),
    }
}

fn without_unknown_items(pdu: &[u8]) -> Option<Vec<u8>> {
    let (fixed, mut items) = pdu.split_at_checked(HEADER_BYTES + 68)?;
    let mut kept = fixed.to_vec();
    while !items.is_empty() {
        let [kind, _, length @ ..] = *items.first_chunk::<4>()?;
        let (item, rest) = items.split_at_checked(4 + usize::from(u16::from_be_bytes(length)))?;
        if matches!(kind, 0x10 | 0x20 | 0x21 | 0x50) {
            kept.extend_from_slice(item);
        }
        items = rest;
    }
    let length = u32::try_from(kept.len() - HEADER_BYTES).ok()?;
    kept[2..HEADER_BYTES].copy_from_slice(&length.to_be_bytes());
    Some(kept)
}

/// The bytes of a PDU of the association (not of P-DATA-TF).
pub fn association_pdu(pdu: &Pdu) -> Vec<u8> {
    let mut bytes = Vec::new();
    // Writing to memory fails only if a text of the peer cannot be encoded in its character set again.
    if write_pdu(&mut bytes, pdu).is_err() {
        return abort_pdu(AbortRQSource::ServiceProvider(AbortRQServiceProviderReason::ReasonNotSpecified));
    }
    bytes
}

/// The bytes of an A-ABORT.
pub fn abort_pdu(source: AbortRQSource) -> Vec<u8> {
    let mut bytes = Vec::new();
    write_pdu(&mut bytes, &Pdu::AbortRQ { source }).expect("an A-ABORT is ten bytes written to memory");
    bytes
}

/// The P-DATA-TF that carry a command in PDUs of at most `max_pdu_bytes`; 0 for no limit (PS3.8 §D.1).
pub fn command_pdus(context: u8, command: &[u8], max_pdu_bytes: u32) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(command.len() + 2 * HEADER_BYTES);
    push_fragments(&mut bytes, context, COMMAND, command, true, max_pdu_bytes);
    bytes
}

/// Appends the P-DATA-TF that carry bytes of a data set, as [`command_pdus`] does for a command. Only the
/// last bytes of a data set may be none.
pub fn push_data_set(out: &mut Vec<u8>, context: u8, bytes: &[u8], is_last: bool, max_pdu_bytes: u32) {
    push_fragments(out, context, 0, bytes, is_last, max_pdu_bytes);
}

fn push_fragments(out: &mut Vec<u8>, context: u8, kind: u8, bytes: &[u8], is_last: bool, max_pdu_bytes: u32) {
    let room = match max_pdu_bytes as usize {
        0 => MAX_SENT_BYTES,
        limit => limit.saturating_sub(HEADER_BYTES).clamp(1, MAX_SENT_BYTES),
    };
    let mut rest = bytes;
    loop {
        let (fragment, after) = rest.split_at(rest.len().min(room));
        let length = fragment.len() as u32 + 2;
        let control = if is_last && after.is_empty() { kind | LAST } else { kind };
        out.extend_from_slice(&[P_DATA_TF, 0]);
        out.extend_from_slice(&(length + 4).to_be_bytes());
        out.extend_from_slice(&length.to_be_bytes());
        out.extend_from_slice(&[context, control]);
        out.extend_from_slice(fragment);
        rest = after;
        if rest.is_empty() {
            return;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pdata(values: &[(u8, u8, &[u8])]) -> Vec<u8> {
        let mut body = Vec::new();
        for (context, control, bytes) in values {
            body.extend_from_slice(&(bytes.len() as u32 + 2).to_be_bytes());
            body.extend_from_slice(&[*context, *control]);
            body.extend_from_slice(bytes);
        }
        let mut pdu = vec![P_DATA_TF, 0];
        pdu.extend_from_slice(&(body.len() as u32).to_be_bytes());
        pdu.extend_from_slice(&body);
        pdu
    }

    /// Splits what arrives in the given portions, with the pieces of each value joined again.
    fn split<'a>(portions: impl IntoIterator<Item = &'a [u8]>) -> Result<Vec<PduPiece>, Violation> {
        let (mut splitter, mut buffer) = (PduSplitter::new(64), BytesMut::new());
        let mut pieces: Vec<PduPiece> = Vec::new();
        for portion in portions {
            buffer.extend_from_slice(portion);
            while let Some(piece) = splitter.next(&mut buffer)? {
                match (pieces.last_mut(), piece) {
                    (Some(PduPiece::Pdv(before)), PduPiece::Pdv(value))
                        if !before.is_last
                            && (before.context, before.is_command) == (value.context, value.is_command) =>
                    {
                        before.bytes = [&before.bytes[..], &value.bytes[..]].concat().into();
                        before.is_last = value.is_last;
                    }
                    (_, piece) => pieces.push(piece),
                }
            }
        }
        Ok(pieces)
    }

    fn value(context: u8, is_command: bool, is_last: bool, bytes: &'static [u8]) -> PduPiece {
        PduPiece::Pdv(PdvChunk { context, is_command, is_last, bytes: Bytes::from_static(bytes) })
    }

    #[test]
    fn every_cut_of_the_stream_gives_the_same_values() {
        let stream = [
            pdata(&[(1, 3, b"command"), (1, 0, b"data ")]),
            pdata(&[]),
            pdata(&[(1, 0, b""), (1, 0, b"set")]),
            pdata(&[(1, 2, b"")]),
            vec![5, 0, 0, 0, 0, 4, 0, 0, 0, 0],
            vec![7, 0, 0, 0, 0, 4, 0, 0, 0, 0],
        ]
        .concat();
        let expected = [
            value(1, true, true, b"command"),
            value(1, false, true, b"data set"),
            PduPiece::Release,
            PduPiece::Abort,
        ];
        for first in 0..=stream.len() {
            for second in first..=stream.len() {
                let portions = [&stream[..first], &stream[first..second], &stream[second..]];
                assert_eq!(split(portions).unwrap(), expected, "{first} {second}");
            }
        }
        assert_eq!(split(stream.chunks(1)).unwrap(), expected);
    }

    #[test]
    fn impossible_lengths_are_refused_before_their_bytes_come() {
        for (bytes, violation) in [
            (&[4, 0, 0, 0, 0, 65][..], Violation::PduTooLong { length: 65, limit: 64 }),
            (&[4, 0, 255, 255, 255, 255], Violation::PduTooLong { length: u32::MAX, limit: 64 }),
            (&[4, 0, 0, 0, 0, 5], Violation::Length),
            (&[4, 0, 0, 0, 0, 6, 0, 0, 0, 1, 1, 0], Violation::Length),
            (&[4, 0, 0, 0, 0, 6, 0, 0, 0, 3, 1, 0], Violation::Length),
            (&[4, 0, 0, 0, 0, 6, 255, 255, 255, 255, 1, 0], Violation::Length),
            (&[1, 0, 0, 16, 0, 1], Violation::Length),
            (&[5, 0, 0, 0, 0, 5], Violation::Length),
            (&[7, 0, 255, 0, 0, 0], Violation::Length),
            (&[0, 0, 0, 0, 0, 4], Violation::UnknownPdu(0)),
            (b"GET / HTTP/1.1", Violation::UnknownPdu(b'G')),
        ] {
            assert_eq!(split([bytes]), Err(violation), "{bytes:?}");
        }
    }

    #[test]
    fn value_bytes_are_not_copied() {
        let stream = pdata(&[(1, 2, b"0123456789")]);
        let mut buffer = BytesMut::from(&stream[..]);
        let place = buffer[12..].as_ptr();
        let Ok(Some(PduPiece::Pdv(value))) = PduSplitter::new(64).next(&mut buffer) else { panic!() };
        assert_eq!(value.bytes.as_ptr(), place);
    }

    /// A request without contexts, with the given items after its fixed part.
    fn associate(items: &[u8]) -> Bytes {
        let mut pdu = vec![ASSOCIATE_RQ, 0];
        pdu.extend_from_slice(&(68 + items.len() as u32).to_be_bytes());
        pdu.extend_from_slice(&[0, 1, 0, 0]);
        pdu.extend_from_slice(&[b'A'; 32]);
        pdu.extend_from_slice(&[0; 32]);
        pdu.extend_from_slice(items);
        pdu.into()
    }

    #[test]
    fn unknown_items_of_a_request_are_passed_over_and_wrong_lengths_are_not() {
        let request = read_associate(&associate(b"\x77\0\0\x02??\x10\0\0\x031.2\x78\0\0\0")).unwrap();
        assert_eq!(request.application_context_name, "1.2");
        for items in [
            &b""[..],
            b"\x10\0\0\x041.2",
            b"\x10\0\0\x031.2\x77\0",
            b"\x10\0\0\x031.2\x50\0\0\x06\x51\0\0\x04\0\0",
            b"\x10\0\0\x031.2\x20\0\0\x08\x01\0\0\0\x30\0\xFF\xFF",
        ] {
            assert_eq!(read_associate(&associate(items)), Err(Violation::Request), "{items:?}");
        }
    }

    proptest::proptest! {
        #[test]
        fn no_items_make_the_reader_of_requests_panic(
            items in proptest::collection::vec(proptest::sample::select(&b"\x10\x20\x30\x40\x50\x51\x52\x54\x58\0\x01\x04"[..]), 0..80)
        ) {
            let _ = read_associate(&associate(&items));
        }
    }

    #[test]
    fn a_command_is_cut_to_what_the_peer_takes() {
        let bytes = command_pdus(3, b"0123456789", 12);
        assert_eq!(split([&bytes[..]]).unwrap(), [value(3, true, true, b"0123456789")]);
        assert_eq!(bytes.len(), 10 + 2 * 12);
        assert_eq!(command_pdus(3, b"0123456789", 0).len(), 10 + 12);
    }
}
