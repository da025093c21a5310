//! C-STORE as SCP (PS3.4 §B, PS3.7 §9.1.1): puts the file header of PS3.10 §7.1 before the data set and
//! passes both to the archive while they are received.

use std::sync::Arc;

use bytes::Bytes;

use crate::archive::Archive;
use crate::archive::access::Caller;
use crate::archive::ingest::Upload;
use crate::dicom::uid::InstanceUid;
use crate::dicom::uids;
use crate::dicom::write::file_head;
use crate::dimse::command::{DimseRequest, Status};
use crate::dimse::models;
use crate::dimse::negotiation::PresentationContext;
use crate::dimse::status::{self, Unacceptable};

/// Begins a C-STORE. The caller writes the data set to the upload.
///
/// # Errors
/// The status of the response after the data set was discarded, if the request cannot be carried out.
pub async fn begin(
    request: &DimseRequest,
    context: &PresentationContext,
    archive: &Arc<Archive>,
    caller: &Caller,
) -> Result<Upload, Status> {
    let class = context.abstract_syntax.as_str();
    let is_other = [uids::VERIFICATION, uids::STORAGE_COMMITMENT_PUSH_MODEL].contains(&class);
    if is_other || models::of_sop_class(class).is_some() {
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
    let head = file_head(&context.abstract_syntax, instance.as_str(), &context.transfer_syntax);
    let mut upload = archive.receive(caller, None).await;
    upload.expect_instance(instance);
    upload.expect_sop_class(&context.abstract_syntax);
    upload.write(Bytes::from(head)).await;
    Ok(upload)
}
