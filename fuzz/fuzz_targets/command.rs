//! What a DIMSE peer sends: PDUs of any bytes, A-ASSOCIATE-RQ, and command sets. Nothing may panic.

#![no_main]

use bytes::{Bytes, BytesMut};
use cuspid::dimse::command;
use cuspid::dimse::pdu::{self, PduPiece, PduSplitter};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|input: &[u8]| {
    let _ = command::read(input);
    let _ = pdu::read_answer(&Bytes::copy_from_slice(input));
    let _ = pdu::read_associate(&Bytes::copy_from_slice(input));
    let mut splitter = PduSplitter::new(16 * 1024);
    let mut buffer = BytesMut::new();
    for piece in input.chunks(7) {
        buffer.extend_from_slice(piece);
        loop {
            match splitter.next(&mut buffer) {
                Ok(None) => break,
                // The association ends here.
                Err(_) | Ok(Some(PduPiece::Answer(_) | PduPiece::Abort)) => return,
                Ok(Some(_)) => {}
            }
        }
    }
});
