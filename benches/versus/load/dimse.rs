//! A fast C-STORE sender: one association a worker, files from memory, PDUs as large as the peer allows
//! (PS3.7 §9.3.1, PS3.8 §9.3).

use std::io::{Error, IoSlice, Read, Result, Write};
use std::net::TcpStream;
use std::os::linux::net::TcpStreamExt;

use crate::{Report, dicom, run};

/// Sends every file of a directory by C-STORE over so many associations.
pub(crate) fn store(address: &str, ae_title: &str, associations: usize, directory: &str) -> Result<Report> {
    let files = dicom::read_directory(directory)?.into_iter().map(dicom::open).collect::<Result<Vec<_>>>()?;
    let first = files.first().ok_or_else(|| Error::other("no files"))?;
    run(&files, associations, || {
        let mut association =
            Association::request(address, ae_title, &first.sop_class, &first.transfer_syntax)?;
        Ok(move |file: &dicom::File| association.send(file))
    })
}

struct Association {
    stream: TcpStream,
    max_pdu: usize,
    message_id: u16,
}

/// A sub-item or item of PS3.8 §9.3.2: type, reserved byte, length of 16 bits, value.
fn item(kind: u8, value: &[u8]) -> Vec<u8> {
    let mut item = vec![kind, 0];
    item.extend((value.len() as u16).to_be_bytes());
    item.extend(value);
    item
}

impl Association {
    fn request(address: &str, ae_title: &str, sop_class: &str, transfer_syntax: &str) -> Result<Self> {
        let mut stream = TcpStream::connect(address)?;
        stream.set_nodelay(true)?;
        let context =
            [vec![1, 0, 0, 0], item(0x30, sop_class.as_bytes()), item(0x40, transfer_syntax.as_bytes())];
        let user = [item(0x51, &65536u32.to_be_bytes()), item(0x52, b"1.2.826.0.1.3680043.10.1")];
        let body = [
            vec![0, 1, 0, 0],
            format!("{ae_title:<16}VERSUS          ").into_bytes(),
            vec![0; 32],
            item(0x10, b"1.2.840.10008.3.1.1.1"),
            item(0x20, &context.concat()),
            item(0x50, &user.concat()),
        ];
        write_pdu(&mut stream, 1, &body.concat())?;
        let (kind, answer) = read_pdu(&mut stream)?;
        if kind != 2 {
            return Err(Error::other("the association was not accepted"));
        }
        let max_pdu = accepted_max_pdu(&answer).ok_or_else(|| Error::other("no context was accepted"))?;
        Ok(Self { stream, max_pdu, message_id: 0 })
    }

    /// Sends one file and waits for its success; the bytes sent.
    fn send(&mut self, file: &dicom::File) -> Result<u64> {
        self.message_id = self.message_id.wrapping_add(1);
        let command = command(self.message_id, &file.sop_class, &file.sop_instance);
        self.fragments(&command, 0b01)?;
        self.fragments(&file.bytes[file.data_set..], 0b00)?;
        let (kind, answer) = read_pdu(&mut self.stream)?;
        // (0000,0900) Status stands last but for the UIDs; its eight bytes of header are unique in the
        // answer.
        let header = [0, 0, 0, 9, 2, 0, 0, 0];
        let status = answer.windows(10).find(|window| window[..8] == header);
        match (kind, status) {
            (4, Some(status)) if status[8..] == [0, 0] => Ok(file.bytes.len() as u64),
            _ => Err(Error::other(format!("PDU {kind} instead of a success: {status:?}"))),
        }
    }

    /// Sends a message part as P-DATA-TF PDUs with one PDV each (PS3.8 §9.3.5).
    fn fragments(&mut self, message: &[u8], control: u8) -> Result<()> {
        let mut pieces = message.chunks(self.max_pdu - 6).peekable();
        while let Some(piece) = pieces.next() {
            let last = if pieces.peek().is_none() { 0b10 } else { 0 };
            let length = piece.len() as u32;
            let mut head = vec![4, 0];
            head.extend((length + 6).to_be_bytes());
            head.extend((length + 2).to_be_bytes());
            head.extend([1, control | last]);
            write_both(&mut self.stream, &head, piece)?;
        }
        Ok(())
    }
}

impl Drop for Association {
    fn drop(&mut self) {
        // A-RELEASE; the run is over, so a peer that has gone is no error.
        if write_pdu(&mut self.stream, 5, &[0; 4]).is_ok() {
            let _ = read_pdu(&mut self.stream);
        }
    }
}

fn write_both(stream: &mut TcpStream, head: &[u8], piece: &[u8]) -> Result<()> {
    let sent = stream.write_vectored(&[IoSlice::new(head), IoSlice::new(piece)])?;
    if sent < head.len() {
        stream.write_all(&head[sent..])?;
    }
    stream.write_all(&piece[sent.saturating_sub(head.len())..])
}

/// The peer's maximum length, if it accepted a presentation context (PS3.8 §9.3.3).
fn accepted_max_pdu(answer: &[u8]) -> Option<usize> {
    let (mut at, mut is_accepted, mut max_pdu) = (68, false, None);
    while let Some(head) = answer.get(at..at + 4) {
        let length = usize::from(u16::from_be_bytes([head[2], head[3]]));
        match head[0] {
            0x21 => is_accepted |= answer.get(at + 6) == Some(&0),
            0x50 => {
                at += 4;
                continue;
            }
            0x51 => max_pdu = answer.get(at + 4..at + 8),
            _ => {}
        }
        at += 4 + length;
    }
    let max_pdu = max_pdu.map(|four| u32::from_be_bytes([four[0], four[1], four[2], four[3]]) as usize)?;
    let max_pdu = if max_pdu == 0 { 1 << 20 } else { max_pdu.clamp(4096, 1 << 20) };
    is_accepted.then_some(max_pdu)
}

/// A C-STORE-RQ in implicit VR little endian (PS3.7 §9.3.1.1).
fn command(message_id: u16, sop_class: &str, sop_instance: &str) -> Vec<u8> {
    let uid = |text: &str| {
        let mut value = text.as_bytes().to_vec();
        value.resize(value.len().next_multiple_of(2), 0);
        value
    };
    let elements = [
        (0x0002u16, uid(sop_class)),
        (0x0100, 1u16.to_le_bytes().to_vec()),
        (0x0110, message_id.to_le_bytes().to_vec()),
        (0x0700, 0u16.to_le_bytes().to_vec()),
        (0x0800, 0u16.to_le_bytes().to_vec()),
        (0x1000, uid(sop_instance)),
    ];
    let mut rest = Vec::new();
    for (element, value) in elements {
        write_element(&mut rest, element, &value);
    }
    let mut command = Vec::new();
    write_element(&mut command, 0, &(rest.len() as u32).to_le_bytes());
    command.extend(rest);
    command
}

/// Adds an element of group 0 in implicit VR little endian.
pub(crate) fn write_element(command: &mut Vec<u8>, element: u16, value: &[u8]) {
    command.extend([0, 0]);
    command.extend(element.to_le_bytes());
    command.extend((value.len() as u32).to_le_bytes());
    command.extend(value);
}

/// Reads one PDU: its type and what follows its length (PS3.8 §9.3.1).
pub(crate) fn read_pdu(stream: &mut TcpStream) -> Result<(u8, Vec<u8>)> {
    let mut head = [0; 6];
    stream.read_exact(&mut head)?;
    // A peer that writes the head by itself waits for its acknowledgement, 40 ms each time. The kernel
    // forgets this option as it goes, so only setting it now, with the acknowledgement due, is sure to send
    // it.
    stream.set_quickack(true)?;
    let mut body = vec![0; u32::from_be_bytes([head[2], head[3], head[4], head[5]]) as usize];
    stream.read_exact(&mut body)?;
    Ok((head[0], body))
}

/// Writes one PDU.
pub(crate) fn write_pdu(stream: &mut TcpStream, kind: u8, body: &[u8]) -> Result<()> {
    let mut pdu = vec![kind, 0];
    pdu.extend((body.len() as u32).to_be_bytes());
    pdu.extend(body);
    stream.write_all(&pdu)
}
