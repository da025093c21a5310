//! The audit log of a C-GET or C-MOVE: for each study a record before the first instance is sent, and one
//! with the numbers at the end (PS3.15 §A.5.3.3, §A.5.3.7).

use std::collections::BTreeMap;

use crate::archive::Error;
use crate::archive::scope::Scope;
use crate::dicom::uid::StudyUid;
use crate::dimse::service::ServiceRequest;

/// A transfer of instances, with the numbers of those of each study that were sent and were not.
#[derive(Default)]
pub(super) struct AuditedTransfer {
    studies: BTreeMap<StudyUid, (u64, u64)>,
    /// The destination, if it is not the peer.
    destination: Option<String>,
}

impl AuditedTransfer {
    /// Records that instances of these scopes are about to be sent.
    ///
    /// # Errors
    /// If the audit log cannot be written: nothing may be sent then.
    pub(super) async fn begin(
        service: &ServiceRequest,
        scopes: &[Scope],
        destination: Option<&str>,
    ) -> Result<Self, Error> {
        let studies: BTreeMap<_, _> = scopes.iter().map(|scope| (scope.study.clone(), (0, 0))).collect();
        for study in studies.keys() {
            service.acceptor.archive.audit_transfer_begins(&service.caller, study, destination).await?;
        }
        Ok(Self { studies, destination: destination.map(str::to_owned) })
    }

    /// Counts an instance.
    pub(super) fn add(&mut self, study: &StudyUid, is_sent: bool) {
        let (sent, failed) = self.studies.entry(study.clone()).or_default();
        *if is_sent { sent } else { failed } += 1;
    }

    /// Records what was sent. What cannot be recorded was warned of: the records of the beginning are there.
    pub(super) async fn end(&self, service: &ServiceRequest) {
        for (study, counts) in &self.studies {
            let destination = self.destination.as_deref();
            let _ = service
                .acceptor
                .archive
                .audit_transfer_ends(&service.caller, study, destination, *counts)
                .await;
        }
    }
}
