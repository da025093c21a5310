//! The form in which an instance is sent to a peer: the stored one, or another that the peer takes.

use std::future::ready;
use std::sync::Arc;

use bytes::Bytes;
use futures_util::stream::{self, BoxStream, StreamExt, TryStreamExt};

use crate::archive::access::Caller;
use crate::archive::derived::explicit_vr::explicit_file;
use crate::archive::derived::transcode::{Encoding, encodings, read_transcoded, transcoded};
use crate::archive::records::InstanceRecord;
use crate::archive::{Archive, Error};
use crate::dicom::implicit::{HeaderRemover, ImplicitWriter};
use crate::dicom::transfer_syntax::{self, EXPLICIT_VR_LITTLE_ENDIAN, IMPLICIT_VR_LITTLE_ENDIAN};
use crate::dimse::negotiation::PresentationContext;

/// The bytes of a data set.
pub(in crate::dimse) type DataSetBytes = BoxStream<'static, Result<Bytes, Error>>;

/// A form of an instance.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum InstanceForm {
    /// As it is stored.
    Stored,
    /// In Explicit VR Little Endian, made while it is sent.
    Explicit,
    /// In Implicit VR Little Endian, made while it is sent.
    Implicit,
    /// In another transfer syntax without further loss, made as a whole file.
    Transcoded(Encoding),
}

/// The forms in which a peer takes an instance, the best first, each with its presentation context.
fn forms(record: &InstanceRecord, contexts: &[PresentationContext]) -> Vec<(InstanceForm, u8)> {
    let taken = |transfer_syntax: &str| {
        let is_taken = |context: &&PresentationContext| {
            context.takes_instances
                && context.abstract_syntax == record.sop_class
                && context.transfer_syntax == transfer_syntax
        };
        contexts.iter().find(is_taken).map(|context| context.id)
    };
    let stored = record.transfer_syntax.as_str();
    let mut forms = Vec::new();
    let is_irregular = record.is_irregular && stored == EXPLICIT_VR_LITTLE_ENDIAN;
    if let Some(context) = taken(stored).filter(|_| !is_irregular) {
        forms.push((InstanceForm::Stored, context));
    }
    forms.extend(taken(EXPLICIT_VR_LITTLE_ENDIAN).map(|context| (InstanceForm::Explicit, context)));
    forms.extend(taken(IMPLICIT_VR_LITTLE_ENDIAN).map(|context| (InstanceForm::Implicit, context)));
    let others = encodings(record).into_iter();
    let others = others.filter(|encoding| !transfer_syntax::may_be_lossy(encoding.transfer_syntax()));
    forms.extend(others.filter_map(|encoding| {
        taken(encoding.transfer_syntax()).map(|context| (InstanceForm::Transcoded(encoding), context))
    }));
    forms
}

/// Opens an instance in the best form that a peer takes and that can be made; returns the presentation
/// context and the data set.
///
/// # Errors
/// [`Error::Unsupported`] if the peer takes no form; else the error of the last form.
pub(super) async fn open(
    archive: &Arc<Archive>,
    caller: &Caller,
    record: &InstanceRecord,
    contexts: &[PresentationContext],
) -> Result<(u8, DataSetBytes), Error> {
    let mut last = Error::Unsupported("the peer takes no form of the instance".into());
    for (form, context) in forms(record, contexts) {
        match archive.retried(|| open_form(archive, caller, record, form)).await {
            Ok(bytes) => return Ok((context, bytes)),
            Err(error) if error.is_about_form() => last = error,
            Err(error) => return Err(error),
        }
    }
    Err(last)
}

async fn open_form(
    archive: &Arc<Archive>,
    caller: &Caller,
    record: &InstanceRecord,
    form: InstanceForm,
) -> Result<DataSetBytes, Error> {
    Ok(match form {
        InstanceForm::Stored => {
            let file = archive.open_whole(caller, record).await?;
            without_header(file.map_err(Error::from).boxed())
        }
        InstanceForm::Explicit => without_header(explicit_file(archive, caller, record).await?.read()),
        InstanceForm::Implicit => {
            let data_set = without_header(explicit_file(archive, caller, record).await?.read());
            let mut writer = ImplicitWriter::default();
            data_set.map_ok(move |bytes| Bytes::from(writer.push(&bytes))).boxed()
        }
        InstanceForm::Transcoded(encoding) => {
            let file = transcoded(archive, caller, record, encoding).await?;
            let bytes = read_transcoded(archive, &file, 0..file.size_bytes).await?;
            without_header(bytes.map_err(Error::from).boxed())
        }
    })
}

/// The data set of a file.
fn without_header(file: DataSetBytes) -> DataSetBytes {
    let file = file.map_ok(Some).chain(stream::iter([Ok(None)]));
    let data_set = file.scan(HeaderRemover::default(), |remover, piece| {
        ready(Some(piece.map(|piece| match piece {
            Some(bytes) if remover.is_done() => bytes,
            Some(bytes) => remover.push(&bytes).into(),
            None => remover.finish().into(),
        })))
    });
    data_set.try_filter(|bytes| ready(!bytes.is_empty())).boxed()
}
