//! The report of a storage commitment (PS3.4 §J.3.3): what it says of each instance, and its N-EVENT-REPORT.
//!
//! Only an instance that is in the index and whose stored object is there is committed, at the time at which
//! the report is made.

use std::future::Future;

use futures_util::stream::{self, StreamExt, TryStreamExt};
use tokio::task::coop::consume_budget;
use tracing::info;

use crate::archive::access::Caller;
use crate::archive::commitments::{CommitmentReference, ReportOutcome, WaitingCommitment};
use crate::archive::{Archive, Error};
use crate::dicom::attributes::{Attribute, Attributes, Value, Vr};
use crate::dicom::data_set::write;
use crate::dicom::repertoire::Repertoire;
use crate::dicom::tags;
use crate::dicom::uid::InstanceUid;
use crate::dicom::uids::{STORAGE_COMMITMENT_PUSH_MODEL, STORAGE_COMMITMENT_PUSH_MODEL_INSTANCE};
use crate::dimse::command::write_event_report;
use crate::dimse::connection::Interruption;
use crate::dimse::negotiation::PresentationContext;
use crate::dimse::operation::RequestLink;
use crate::dimse::pdu::{command_pdus, push_data_set};
use crate::dimse::status;

/// Event types (PS3.4 Tables J.3-3).
const ALL_COMMITTED: u16 = 1;
const FAILURES_EXIST: u16 = 2;
/// The instances of a request that are looked up at a time.
const LOOK_UPS: usize = 16;
/// The instances of a request that are looked up before other clients may look up theirs.
const BLOCK: usize = 4 * LOOK_UPS;

/// The result of a request for commitment.
#[derive(Debug, Clone)]
pub struct Report {
    /// The Transaction UID of the request.
    pub transaction: String,
    /// The instances that are committed.
    pub committed: Vec<CommitmentReference>,
    /// The other ones, each with its Failure Reason.
    pub failed: Vec<(CommitmentReference, u16)>,
    /// The AE title by which the peer called the server.
    pub called: String,
}

impl Report {
    /// Looks each instance of a request up.
    ///
    /// # Errors
    /// If the archive fails, which proves nothing.
    pub async fn of(
        archive: &Archive,
        caller: &Caller,
        request: &WaitingCommitment,
        references: Vec<CommitmentReference>,
    ) -> Result<Self, Error> {
        let look_up = |reference: CommitmentReference| async move {
            // Each may be found without a wait.
            consume_budget().await;
            let reason = failure(archive, caller, &reference).await?;
            Ok((reference, reason))
        };
        let (mut committed, mut failed) = (Vec::new(), Vec::new());
        for block in references.chunks(BLOCK) {
            let _permit = archive.permits().query(caller).await;
            let (more_committed, more_failed) = sorted(block.to_vec(), look_up).await?;
            committed.extend(more_committed);
            failed.extend(more_failed);
        }
        info!(
            dimse.calling = request.peer,
            committed = committed.len(),
            failed = failed.len(),
            "storage commitment"
        );
        let (transaction, called) = (request.transaction.clone(), request.called.clone());
        Ok(Self { transaction, committed, failed, called })
    }

    fn event_type(&self) -> u16 {
        if self.failed.is_empty() { ALL_COMMITTED } else { FAILURES_EXIST }
    }

    /// The event information (PS3.4 Table J.3-3).
    fn information(&self) -> Attributes {
        let item = |(sop_class, sop_instance): &CommitmentReference| {
            Attributes::from([
                (tags::REFERENCED_SOP_CLASS_UID, Attribute::text(b"UI", sop_class)),
                (tags::REFERENCED_SOP_INSTANCE_UID, Attribute::text(b"UI", sop_instance)),
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

    /// Sends the report, and waits for the response. Returns whether the peer has taken the report.
    pub async fn send(
        &self,
        link: &mut impl RequestLink,
        context: &PresentationContext,
        max_pdu_bytes: u32,
    ) -> Result<ReportOutcome, Interruption> {
        let id = link.next_id();
        link.request(self.message(id, context, max_pdu_bytes)).await?;
        let code = link.response(id).await?.status;
        Ok(outcome_of(code))
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

/// The outcome of a report by the status of the response. A peer that has the report already refuses it.
fn outcome_of(code: u16) -> ReportOutcome {
    let text = || format!("the peer responded {code:04X}H");
    match status::is_success(code) {
        (true, _) | (_, true) => ReportOutcome::Taken,
        _ if status::is_transient(code) => ReportOutcome::Later(text()),
        _ => ReportOutcome::GivenUp(text()),
    }
}

/// The references to instances that are committed, and those to others, with the reasons.
type SortedReferences = (Vec<CommitmentReference>, Vec<(CommitmentReference, u16)>);

/// Looks references up, some at a time, and sorts them by the outcome.
async fn sorted<F>(
    references: Vec<CommitmentReference>,
    look_up: impl Fn(CommitmentReference) -> F,
) -> Result<SortedReferences, Error>
where
    F: Future<Output = Result<(CommitmentReference, Option<u16>), Error>>,
{
    let mut found = stream::iter(references).map(look_up).buffered(LOOK_UPS);
    let (mut committed, mut failed) = (Vec::new(), Vec::new());
    while let Some((reference, reason)) = found.try_next().await? {
        match reason {
            None => committed.push(reference),
            Some(reason) => failed.push((reference, reason)),
        }
    }
    Ok((committed, failed))
}

/// The reason for which an instance is not committed (PS3.3 §C.14.1.1); `None` if it is.
async fn failure(
    archive: &Archive,
    caller: &Caller,
    (sop_class, sop_instance): &CommitmentReference,
) -> Result<Option<u16>, Error> {
    let Ok(uid) = sop_instance.parse::<InstanceUid>() else {
        return Ok(Some(status::NO_SUCH_INSTANCE));
    };
    let Some(scope) = archive.locate(caller, &uid).await? else { return Ok(Some(status::NO_SUCH_INSTANCE)) };
    let Some(series) = scope.series else { return Ok(Some(status::NO_SUCH_INSTANCE)) };
    let record = match archive.instance(caller, &scope.study, &series, &uid).await {
        Ok(record) => record,
        Err(Error::NotFound(_)) => return Ok(Some(status::NO_SUCH_INSTANCE)),
        Err(error) => return Err(error),
    };
    if record.sop_class != *sop_class {
        return Ok(Some(status::CLASS_INSTANCE_CONFLICT));
    }
    // An instance whose object is missing or damaged is not stored, whatever the index says.
    let is_there = archive.has_object(caller, &record).await?;
    Ok((!is_there).then_some(status::PROCESSING_FAILURE))
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use tokio::sync::Barrier;
    use tokio::time::timeout;

    use super::*;

    #[test]
    fn a_report_is_repeated_after_a_status_that_may_pass() {
        for (code, expected) in [
            (0x0000, ReportOutcome::Taken),
            (0x0107, ReportOutcome::Taken),
            (0x0110, ReportOutcome::Later("the peer responded 0110H".into())),
            (0x0213, ReportOutcome::Later("the peer responded 0213H".into())),
            (0x0112, ReportOutcome::GivenUp("the peer responded 0112H".into())),
            (0x0115, ReportOutcome::GivenUp("the peer responded 0115H".into())),
        ] {
            assert_eq!(outcome_of(code), expected, "{code:04X}");
        }
    }

    #[tokio::test]
    async fn references_are_looked_up_beside_each_other_and_keep_their_order() {
        let references: Vec<CommitmentReference> =
            (0..2 * LOOK_UPS).map(|number| ("1.2".into(), format!("1.3.{number}"))).collect();
        let all = Barrier::new(LOOK_UPS);
        let look_up = |reference: CommitmentReference| async {
            all.wait().await;
            let reason = reference.1.ends_with('1').then_some(status::NO_SUCH_INSTANCE);
            Ok((reference, reason))
        };
        let sorted = timeout(Duration::from_secs(10), sorted(references.clone(), look_up)).await;
        let (committed, failed) = sorted.unwrap().unwrap();
        let has_failed = |reference: &CommitmentReference| reference.1.ends_with('1');
        let (expected_failed, expected): (Vec<_>, Vec<_>) = references.into_iter().partition(has_failed);
        assert_eq!(committed, expected);
        assert_eq!(failed.into_iter().map(|(reference, _)| reference).collect::<Vec<_>>(), expected_failed);
    }
}
