//! Just enough of PS3.10 to send a file by C-STORE: its file meta information and where its data set starts.

use std::io::{Error, Result};

/// A DICOM file in memory.
pub(crate) struct File {
    /// Media Storage SOP Class UID.
    pub(crate) sop_class: String,
    /// Media Storage SOP Instance UID.
    pub(crate) sop_instance: String,
    /// Transfer Syntax UID.
    pub(crate) transfer_syntax: String,
    /// Where the data set starts, in bytes from the start of the file.
    pub(crate) data_set: usize,
    /// The whole file.
    pub(crate) bytes: Vec<u8>,
}

/// Reads all files of a directory, in the order of their names.
pub(crate) fn read_directory(directory: &str) -> Result<Vec<Vec<u8>>> {
    let mut paths: Vec<_> =
        std::fs::read_dir(directory)?.map(|entry| Ok(entry?.path())).collect::<Result<_>>()?;
    paths.sort();
    paths.iter().map(std::fs::read).collect()
}

/// Finds what C-STORE needs in a file that this project's own scripts wrote.
///
/// # Errors
/// Anything that is not explicit VR little endian file meta information of short elements (PS3.10 §7.1).
pub(crate) fn open(bytes: Vec<u8>) -> Result<File> {
    let mut file = File {
        sop_class: String::new(),
        sop_instance: String::new(),
        transfer_syntax: String::new(),
        data_set: 0,
        bytes,
    };
    let broken = || Error::other("not a DICOM file");
    let mut at = 132;
    loop {
        let head = file.bytes.get(at..at + 8).ok_or_else(broken)?;
        if head[..2] != [2, 0] {
            file.data_set = at;
            return Ok(file);
        }
        let (start, length) = if &head[4..6] == b"OB" {
            let long = file.bytes.get(at + 8..at + 12).ok_or_else(broken)?;
            (at + 12, u32::from_le_bytes([long[0], long[1], long[2], long[3]]) as usize)
        } else {
            (at + 8, usize::from(u16::from_le_bytes([head[6], head[7]])))
        };
        let element = head[2];
        let value = file.bytes.get(start..start + length).ok_or_else(broken)?;
        let text = || String::from_utf8_lossy(value).trim_end_matches('\0').to_owned();
        match element {
            0x02 => file.sop_class = text(),
            0x03 => file.sop_instance = text(),
            0x10 => file.transfer_syntax = text(),
            _ => {}
        }
        at = start + length;
    }
}
