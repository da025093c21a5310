//! The report of a storage commitment (PS3.4 §J.3.3): its N-EVENT-REPORT, and one attempt to send it on an
//! association of the server's own.

use tracing::warn;

use crate::config::{DimseSettings, PeerAddress};
use crate::dicom::attributes::{Attribute, Attributes, Value, Vr};
use crate::dicom::data_set::write;
use crate::dicom::repertoire::Repertoire;
use crate::dicom::tags;
use crate::dicom::uids::{STORAGE_COMMITMENT_PUSH_MODEL, STORAGE_COMMITMENT_PUSH_MODEL_INSTANCE};
use crate::dimse::command::write_event_report;
use crate::dimse::connection::Interruption;
use crate::dimse::negotiation::PresentationContext;
use crate::dimse::operation::RequestLink;
use crate::dimse::pdu::{command_pdus, push_data_set};
use crate::dimse::requestor::{ProposedContext, Requestor, Target};

/// Event types (PS3.4 Tables J.3-3).
const ALL_COMMITTED: u16 = 1;
const FAILURES_EXIST: u16 = 2;
/// The memory of a reference besides its text.
const REFERENCE_BYTES: usize = 96;

/// A reference to an instance.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Reference {
    /// The SOP class.
    pub sop_class: String,
    /// The SOP Instance UID.
    pub sop_instance: String,
}

/// The result of a request for commitment.
#[derive(Debug, Clone)]
pub struct Report {
    /// The Transaction UID of the request.
    pub transaction: String,
    /// The instances that are committed.
    pub committed: Vec<Reference>,
    /// The other ones, each with its Failure Reason.
    pub failed: Vec<(Reference, u16)>,
    /// The AE title of the server that the peer called.
    pub called: String,
}

impl Report {
    /// The memory that the report takes, about.
    pub fn bytes(&self) -> usize {
        let of_failed = self.failed.iter().map(|(reference, _)| reference);
        let references = self.committed.iter().chain(of_failed);
        references
            .map(|reference| REFERENCE_BYTES + reference.sop_class.len() + reference.sop_instance.len())
            .sum()
    }

    fn event_type(&self) -> u16 {
        if self.failed.is_empty() { ALL_COMMITTED } else { FAILURES_EXIST }
    }

    /// The event information (PS3.4 Table J.3-3).
    fn information(&self) -> Attributes {
        let item = |reference: &Reference| {
            Attributes::from([
                (tags::REFERENCED_SOP_CLASS_UID, Attribute::text(b"UI", &reference.sop_class)),
                (tags::REFERENCED_SOP_INSTANCE_UID, Attribute::text(b"UI", &reference.sop_instance)),
            ])
        };
        let sequence = |items: Vec<Value>| Attribute { vr: Vr(*b"SQ"), values: items };
        let mut information = Attributes::from([
            (tags::TRANSACTION_UID, Attribute::text(b"UI", &self.transaction)),
            (tags::RETRIEVE_AE_TITLE, Attribute::text(b"AE", &self.called)),
        ]);
        if !self.committed.is_empty() {
            let items = self.committed.iter().map(|reference| Value::Item(item(reference)));
            information.insert(tags::REFERENCED_SOP_SEQUENCE, sequence(items.collect()));
        }
        if !self.failed.is_empty() {
            let items = self.failed.iter().map(|(reference, reason)| {
                let mut item = item(reference);
                item.insert(tags::FAILURE_REASON, Attribute::number(b"US", reason));
                Value::Item(item)
            });
            information.insert(tags::FAILED_SOP_SEQUENCE, sequence(items.collect()));
        }
        information
    }

    /// Sends the report, and waits for the response.
    pub async fn send(
        &self,
        link: &mut impl RequestLink,
        context: &PresentationContext,
        max_pdu_bytes: u32,
    ) -> Result<(), Interruption> {
        let id = link.next_id();
        link.request(self.message(id, context, max_pdu_bytes)).await?;
        match link.response(id).await?.status {
            0 => {}
            code => warn!(transaction.uid = self.transaction, "a commitment was answered {code:04X}H"),
        }
        Ok(())
    }

    /// Sends the report on an association of its own, and waits for the response.
    pub async fn attempt(
        &self,
        title: &str,
        address: &PeerAddress,
        settings: &DimseSettings,
    ) -> anyhow::Result<()> {
        let target = Target { address, called: title, calling: &self.called };
        let proposed = [ProposedContext::of_plain_data_sets(STORAGE_COMMITMENT_PUSH_MODEL)];
        let mut requestor = Requestor::connect(target, &proposed, true, settings).await?;
        let context = requestor.contexts.first().cloned();
        let context = context.ok_or_else(|| anyhow::anyhow!("the peer takes no reports"))?;
        let max_pdu_bytes = requestor.peer_max_pdu_bytes;
        self.send(&mut requestor, &context, max_pdu_bytes).await?;
        requestor.release().await;
        Ok(())
    }

    fn message(&self, id: u16, context: &PresentationContext, max_pdu_bytes: u32) -> Vec<u8> {
        let instance = STORAGE_COMMITMENT_PUSH_MODEL_INSTANCE;
        let command = write_event_report(id, STORAGE_COMMITMENT_PUSH_MODEL, instance, self.event_type());
        let mut bytes = command_pdus(context.id, &command, max_pdu_bytes);
        let information = write(&self.information(), context.encoding(), Repertoire::UNICODE);
        push_data_set(&mut bytes, context.id, &information, true, max_pdu_bytes);
        bytes
    }
}
