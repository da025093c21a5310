//! C-STORE as SCP (PS3.4 §B, PS3.7 §9.1.1): puts the file header of PS3.10 §7.1 before the data set and hands
//! both to the archive as they come.

use std::sync::Arc;

use bytes::Bytes;

use crate::archive::Archive;
use crate::archive::access::Caller;
use crate::archive::store::Upload;
use crate::dicom::explicit::IMPLEMENTATION_CLASS_UID;
use crate::dicom::uid::InstanceUid;
use crate::dimse::command::{Request, Status};
use crate::dimse::negotiation::{Context, VERIFICATION};
use crate::dimse::status::{self, Unacceptable};

/// Begins a C-STORE: what follows is to be written to the upload.
///
/// # Errors
/// The status to answer with after the data set was read away, if the request cannot be carried out.
pub async fn begin(
    request: &Request,
    context: &Context,
    archive: &Arc<Archive>,
    caller: &Caller,
) -> Result<Upload, Status> {
    if context.abstract_syntax == VERIFICATION {
        return Err(status::of_unrecognized(request.operation));
    }
    if request.sop_class.as_ref() != Some(&context.abstract_syntax) {
        return Err(status::of_unacceptable(Unacceptable::SopClass));
    }
    let instance = request.sop_instance.as_ref().and_then(|uid| uid.parse::<InstanceUid>().ok());
    let instance = instance.ok_or_else(|| status::of_unacceptable(Unacceptable::SopInstance))?;
    if !request.has_data_set {
        return Err(status::of_unacceptable(Unacceptable::NoDataSet));
    }
    let head = file_head(&context.abstract_syntax, &instance, &context.transfer_syntax);
    let mut upload = archive.receive(caller, None).await;
    upload.expect_instance(instance);
    upload.write(Bytes::from(head)).await;
    Ok(upload)
}

/// Preamble, prefix and file meta information.
///
/// It depends on what is stored alone, not on who sends it nor on the version of this server: a resend must make
/// the same bytes to be recognised (`docs/decisions/0031-file-header-of-c-store.md`).
fn file_head(sop_class: &str, sop_instance: &InstanceUid, transfer_syntax: &str) -> Vec<u8> {
    let mut elements = Vec::with_capacity(512);
    push(&mut elements, 0x0001, b"OB", &[0, 1]);
    push(&mut elements, 0x0002, b"UI", sop_class.as_bytes());
    push(&mut elements, 0x0003, b"UI", sop_instance.as_str().as_bytes());
    push(&mut elements, 0x0010, b"UI", transfer_syntax.as_bytes());
    push(&mut elements, 0x0012, b"UI", IMPLEMENTATION_CLASS_UID.as_bytes());
    let mut head = vec![0; 128];
    head.extend_from_slice(b"DICM");
    push(&mut head, 0x0000, b"UL", &(elements.len() as u32).to_le_bytes());
    head.append(&mut elements);
    head
}

/// Appends an element of group 0002 in explicit VR little endian; values here are far below 64 KiB.
fn push(elements: &mut Vec<u8>, element: u16, vr: &[u8; 2], value: &[u8]) {
    let length = value.len() as u16 + value.len() as u16 % 2;
    elements.extend_from_slice(&[2, 0]);
    elements.extend_from_slice(&element.to_le_bytes());
    elements.extend_from_slice(vr);
    if vr == b"OB" {
        elements.extend_from_slice(&[0, 0]);
        elements.extend_from_slice(&u32::from(length).to_le_bytes());
    } else {
        elements.extend_from_slice(&length.to_le_bytes());
    }
    elements.extend_from_slice(value);
    if value.len() % 2 == 1 {
        elements.push(0);
    }
}

#[cfg(test)]
mod tests {
    use dicom_object::FileMetaTable;

    use super::*;

    #[test]
    fn the_file_head_is_read_by_others() {
        let head = file_head("1.2.840.10008.5.1.4.1.1.2", &"1.2.3".parse().unwrap(), "1.2.840.10008.1.2.1");
        assert_eq!(head[..128], [0; 128]);
        let mut rest = &head[128..];
        let meta = FileMetaTable::from_reader(&mut rest).unwrap();
        assert!(rest.is_empty(), "{} bytes follow", rest.len());
        assert_eq!(meta.information_group_length as usize, head.len() - 128 - 4 - 12);
        assert_eq!(meta.media_storage_sop_class_uid(), "1.2.840.10008.5.1.4.1.1.2");
        assert_eq!(meta.media_storage_sop_instance_uid(), "1.2.3");
        assert_eq!(meta.transfer_syntax(), "1.2.840.10008.1.2.1");
        assert_eq!(meta.implementation_class_uid(), IMPLEMENTATION_CLASS_UID);
        assert_eq!(meta.source_application_entity_title, None);
    }
}
