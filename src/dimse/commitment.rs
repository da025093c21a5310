//! Storage commitment, push model, as SCP (PS3.4 §J.3): confirms to a peer that instances are stored durably.
//! Only an instance that is in the index and whose stored object is there is committed.

use std::future::Future;

use futures_util::stream::{self, StreamExt, TryStreamExt};
use tokio::task::coop::consume_budget;
use tracing::info;

use crate::archive::Error;
use crate::dicom::attributes::{Attribute, Attributes, Tag, Value};
use crate::dicom::tags;
use crate::dicom::uid::InstanceUid;
use crate::dicom::uids::STORAGE_COMMITMENT_PUSH_MODEL_INSTANCE;
use crate::dimse::command::{DimseRequest, Status};
use crate::dimse::connection::Interruption;
use crate::dimse::identifier::read_data_set;
use crate::dimse::operation::Outbox;
use crate::dimse::report::{Reference, Report};
use crate::dimse::service::ServiceRequest;
use crate::dimse::status::{self, WrongAction, WrongIdentifier};

/// Action type 1, "Request Storage Commitment".
const REQUEST_COMMITMENT: u16 = 1;
/// The most elements of the information of a request: those of as many references as it can hold.
const MAX_ELEMENTS: usize = 60_000;
/// The instances of a request that are looked up at a time.
const LOOK_UPS: usize = 16;
/// The instances of a request that are looked up before other clients may look up theirs.
const BLOCK: usize = 4 * LOOK_UPS;

/// Carries out an N-ACTION: responds, then reports the result in an N-EVENT-REPORT. A peer that has an
/// address in `dimse.peers` gets the report on an association of its own, others on the same association.
///
/// # Errors
/// If the association ends before the last message.
pub async fn commit(
    service: ServiceRequest,
    information: Vec<u8>,
    mut outbox: Outbox,
) -> Result<(), Interruption> {
    let (request, transfer_syntax) = (service.request.clone(), service.context.transfer_syntax.clone());
    let read = service.read_apart(move || Action::read(&request, &information, &transfer_syntax)).await;
    let action = match read.unwrap_or_else(|error| Err(status::of_failed_action(&error))) {
        Ok(action) => action,
        Err(status) => return outbox.send(service.response(&status, None)).await,
    };
    let report = match action.carry_out(&service).await {
        Ok(report) => report,
        Err(error) => {
            return outbox.send(service.response(&status::of_failed_action(&error), None)).await;
        }
    };
    let address =
        service.acceptor.callers.destination(&service.calling, &service.called, &service.caller.tenant);
    let Some(address) = address.cloned() else {
        outbox.send(service.response(&Status::SUCCESS, None)).await?;
        let (context, max_pdu_bytes) = (&service.context, service.peer_max_pdu_bytes);
        return match report.send(&mut outbox, context, max_pdu_bytes).await {
            // The peer has released the association: the message came before the answer to that.
            Ok(()) | Err(Interruption::Closed) => Ok(()),
            Err(interruption) => Err(interruption),
        };
    };
    let Some(place) = service.acceptor.reports.reserve(&service.calling, report.bytes()) else {
        let status = status::of_action(WrongAction::TooMany);
        return outbox.send(service.response(&status, None)).await;
    };
    outbox.send(service.response(&Status::SUCCESS, None)).await?;
    // The report is sent though the association of the request ends.
    service.acceptor.reports.push(&service.calling, &address, report, place);
    Ok(())
}

/// A request for commitment.
struct Action {
    transaction: String,
    references: Vec<Reference>,
}

impl Action {
    /// Reads the action information (PS3.4 Table J.3-1).
    fn read(request: &DimseRequest, information: &[u8], transfer_syntax: &str) -> Result<Self, Status> {
        if request.action_type != Some(REQUEST_COMMITMENT) {
            return Err(status::of_action(WrongAction::Type));
        }
        if request.sop_instance.as_deref() != Some(STORAGE_COMMITMENT_PUSH_MODEL_INSTANCE) {
            return Err(status::of_action(WrongAction::Instance));
        }
        let information = read_data_set(information, transfer_syntax, MAX_ELEMENTS);
        let information = information.map_err(|wrong| match wrong {
            WrongIdentifier::TooMany => status::of_identifier(wrong),
            _ => status::of_action(WrongAction::Unreadable),
        })?;
        let transaction = text(&information, tags::TRANSACTION_UID);
        let transaction =
            transaction.ok_or_else(|| status::of_action(WrongAction::Missing(tags::TRANSACTION_UID)))?;
        let items = information.get(&tags::REFERENCED_SOP_SEQUENCE).map_or(&[][..], |items| &items.values);
        let references: Option<Vec<Reference>> = items
            .iter()
            .map(|value| {
                let Value::Item(item) = value else { return None };
                let sop_class = text(item, tags::REFERENCED_SOP_CLASS_UID)?;
                Some(Reference { sop_class, sop_instance: text(item, tags::REFERENCED_SOP_INSTANCE_UID)? })
            })
            .collect();
        let references = references
            .filter(|references| !references.is_empty())
            .ok_or_else(|| status::of_action(WrongAction::Missing(tags::REFERENCED_SOP_SEQUENCE)))?;
        Ok(Self { transaction, references })
    }

    /// Looks each instance up.
    async fn carry_out(self, service: &ServiceRequest) -> Result<Report, Error> {
        let look_up = |reference: Reference| async move {
            // Each may be found without a wait.
            consume_budget().await;
            let reason = failure(service, &reference).await?;
            Ok((reference, reason))
        };
        let (mut committed, mut failed) = (Vec::new(), Vec::new());
        for block in self.references.chunks(BLOCK) {
            let _permit = service.acceptor.archive.permits().query(&service.caller).await;
            let (more_committed, more_failed) = sorted(block.to_vec(), look_up).await?;
            committed.extend(more_committed);
            failed.extend(more_failed);
        }
        info!(
            dimse.calling = service.calling,
            committed = committed.len(),
            failed = failed.len(),
            "storage commitment"
        );
        Ok(Report { transaction: self.transaction, committed, failed, called: service.called.clone() })
    }
}

/// The references to instances that are committed, and those to others, with the reasons.
type SortedReferences = (Vec<Reference>, Vec<(Reference, u16)>);

/// Looks references up, some at a time, and sorts them by the outcome.
async fn sorted<F>(
    references: Vec<Reference>,
    look_up: impl Fn(Reference) -> F,
) -> Result<SortedReferences, Error>
where
    F: Future<Output = Result<(Reference, Option<u16>), Error>>,
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
async fn failure(service: &ServiceRequest, reference: &Reference) -> Result<Option<u16>, Error> {
    let (archive, caller) = (&service.acceptor.archive, &service.caller);
    let Ok(uid) = reference.sop_instance.parse::<InstanceUid>() else {
        return Ok(Some(status::NO_SUCH_INSTANCE));
    };
    let Some(scope) = archive.locate(caller, &uid).await? else { return Ok(Some(status::NO_SUCH_INSTANCE)) };
    let Some(series) = scope.series else { return Ok(Some(status::NO_SUCH_INSTANCE)) };
    let record = match archive.instance(caller, &scope.study, &series, &uid).await {
        Ok(record) => record,
        Err(Error::NotFound(_)) => return Ok(Some(status::NO_SUCH_INSTANCE)),
        Err(error) => return Err(error),
    };
    if record.sop_class != reference.sop_class {
        return Ok(Some(status::CLASS_INSTANCE_CONFLICT));
    }
    // An instance whose object is missing or damaged is not stored, whatever the index says.
    let is_there = archive.has_object(caller, &record).await?;
    Ok((!is_there).then_some(status::PROCESSING_FAILURE))
}

fn text(attributes: &Attributes, tag: Tag) -> Option<String> {
    let text = attributes.get(&tag).and_then(Attribute::first_text)?;
    (!text.is_empty()).then(|| text.to_owned())
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use tokio::sync::Barrier;
    use tokio::time::timeout;

    use super::*;

    #[tokio::test]
    async fn references_are_looked_up_beside_each_other_and_keep_their_order() {
        let references: Vec<Reference> = (0..2 * LOOK_UPS)
            .map(|number| Reference { sop_class: "1.2".into(), sop_instance: format!("1.3.{number}") })
            .collect();
        let all = Barrier::new(LOOK_UPS);
        let look_up = |reference: Reference| async {
            all.wait().await;
            let reason = reference.sop_instance.ends_with('1').then_some(status::NO_SUCH_INSTANCE);
            Ok((reference, reason))
        };
        let sorted = timeout(Duration::from_secs(10), sorted(references.clone(), look_up)).await;
        let (committed, failed) = sorted.unwrap().unwrap();
        let has_failed = |reference: &Reference| reference.sop_instance.ends_with('1');
        let (expected_failed, expected): (Vec<_>, Vec<_>) = references.into_iter().partition(has_failed);
        assert_eq!(committed, expected);
        assert_eq!(failed.into_iter().map(|(reference, _)| reference).collect::<Vec<_>>(), expected_failed);
    }
}
