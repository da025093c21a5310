//! The context of a long operation of a peer: its request, the peer, and the archive.

use std::sync::Arc;

use crate::archive::access::Caller;
use crate::archive::{Error, run_blocking};
use crate::dicom::attributes::Attributes;
use crate::dicom::data_set::write;
use crate::dicom::repertoire::Repertoire;
use crate::dimse::acceptor::Acceptor;
use crate::dimse::command::{DimseRequest, Status, SubOperations, write_full_response};
use crate::dimse::negotiation::PresentationContext;
use crate::dimse::pdu::{command_pdus, push_data_set};

/// The context of an operation.
pub struct ServiceRequest {
    /// The request.
    pub request: DimseRequest,
    /// The presentation context of the request.
    pub context: PresentationContext,
    /// All presentation contexts of the association.
    pub contexts: Arc<[PresentationContext]>,
    /// The longest P-DATA-TF that the peer accepts; 0 for no limit.
    pub peer_max_pdu_bytes: u32,
    /// The caller.
    pub caller: Caller,
    /// The AE title of the peer.
    pub calling: String,
    /// The AE title by which the peer called the server.
    pub called: String,
    /// The state that all associations share.
    pub acceptor: Arc<Acceptor>,
}

impl ServiceRequest {
    /// Reads the data set of the request on a blocking thread, as one piece of work of the caller among those
    /// of all clients.
    ///
    /// # Errors
    /// If the work cannot be done. A status of the peer's fault is in the result.
    pub async fn read_apart<T: Send + 'static>(
        &self,
        read: impl FnOnce() -> Result<T, Status> + Send + 'static,
    ) -> Result<Result<T, Status>, Error> {
        let permit = self.acceptor.archive.permits().query(&self.caller).await;
        run_blocking(Some(permit), read).await
    }

    /// A response without a data set.
    pub fn response(&self, status: &Status, counts: Option<SubOperations>) -> Vec<u8> {
        let response = write_full_response(&self.request, status, counts, false);
        command_pdus(self.context.id, &response, self.peer_max_pdu_bytes)
    }

    /// A response with a data set.
    pub fn response_with(
        &self,
        status: &Status,
        counts: Option<SubOperations>,
        data_set: &Attributes,
        repertoire: Repertoire,
    ) -> Vec<u8> {
        let response = write_full_response(&self.request, status, counts, true);
        let mut bytes = command_pdus(self.context.id, &response, self.peer_max_pdu_bytes);
        let data_set = write(data_set, self.context.encoding(), repertoire);
        push_data_set(&mut bytes, self.context.id, &data_set, true, self.peer_max_pdu_bytes);
        bytes
    }
}
