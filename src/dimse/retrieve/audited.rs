//! The audit log of a C-GET, a C-MOVE or forwarding: for each study a record before the first instance is
//! sent, and one with the numbers at the end (PS3.15 §A.5.3.3, §A.5.3.7).

use std::collections::{BTreeMap, BTreeSet};

use crate::archive::access::Caller;
use crate::archive::{Archive, Error};
use crate::dicom::uid::StudyUid;

/// A transfer of instances, with the numbers of those of each study that were sent and were not.
#[derive(Default)]
pub(in crate::dimse) struct AuditedTransfer {
    studies: BTreeMap<StudyUid, (u64, u64)>,
    /// The destination, if it is not the peer.
    destination: Option<String>,
}

impl AuditedTransfer {
    /// Records that instances of these studies are about to be sent.
    ///
    /// # Errors
    /// If the audit log cannot be written: nothing may be sent then.
    pub(in crate::dimse) async fn begin(
        archive: &Archive,
        caller: &Caller,
        studies: BTreeSet<StudyUid>,
        destination: Option<&str>,
    ) -> Result<Self, Error> {
        for study in &studies {
            archive.audit_transfer_begins(caller, study, destination).await?;
        }
        let studies = studies.into_iter().map(|study| (study, (0, 0))).collect();
        Ok(Self { studies, destination: destination.map(str::to_owned) })
    }

    /// Counts an instance.
    pub(in crate::dimse) fn add(&mut self, study: &StudyUid, is_sent: bool) {
        let (sent, failed) = self.studies.entry(study.clone()).or_default();
        *if is_sent { sent } else { failed } += 1;
    }

    /// Records what was sent. What cannot be recorded was warned of: the records of the beginning are there.
    pub(in crate::dimse) async fn end(&self, archive: &Archive, caller: &Caller) {
        for (study, counts) in &self.studies {
            let destination = self.destination.as_deref();
            let _ = archive.audit_transfer_ends(caller, study, destination, *counts).await;
        }
    }
}
