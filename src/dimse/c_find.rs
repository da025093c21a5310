//! C-FIND as SCP (PS3.4 §C.4.1, PS3.7 §9.1.2): finds patients, studies, series and instances as QIDO-RS does,
//! a page at a time.

use std::collections::HashSet;
use std::hash::{DefaultHasher, Hash, Hasher};

use crate::archive::Error;
use crate::dicom::attributes::{Attribute, Attributes};
use crate::dicom::tags;
use crate::dimse::command::Status;
use crate::dimse::connection::Interruption;
use crate::dimse::identifier::{Identifier, QueryLevel};
use crate::dimse::models::ModelRoot;
use crate::dimse::operation::Outbox;
use crate::dimse::query_keys::{self, FindQuery};
use crate::dimse::service::ServiceRequest;
use crate::dimse::status;
use crate::query::ResultPlace;

/// The results of a page.
const PAGE_RESULTS: usize = 100;
/// The bytes of a page from which it ends.
const PAGE_BYTES: usize = 256 * 1024;
/// The most patients of one query: those that were found are remembered.
const MAX_PATIENTS: usize = 250_000;

/// Carries out a C-FIND.
///
/// # Errors
/// If the association ends before the last response.
pub async fn find(
    service: ServiceRequest,
    root: ModelRoot,
    identifier: Vec<u8>,
    mut outbox: Outbox,
) -> Result<(), Interruption> {
    let (context, called) = (service.context.clone(), service.called.clone());
    let read = service.read_apart(move || {
        let identifier = Identifier::read(&identifier, &context.transfer_syntax, root)?;
        let (level, repertoire) = (identifier.level, identifier.repertoire);
        let asked = identifier.describe();
        let query = query_keys::read(identifier, root, context.options, PAGE_RESULTS, &called)?;
        Ok((query, level, repertoire, asked))
    });
    let query = tokio::select! {
        biased;
        () = outbox.cancelled() => Err(status::of_cancelled()),
        query = read => query.unwrap_or_else(|error| Err(status::of_failed_query(&error))),
    };
    let status = match query {
        Ok((query, level, repertoire, asked)) => {
            let (study, text) = asked;
            let text = format!("C-FIND {text}");
            let recorded =
                service.acceptor.archive.audit_query(&service.caller, study.as_deref(), &text, &text).await;
            if let Err(error) = recorded {
                return outbox.send(service.response(&status::of_failed_query(&error), None)).await;
            }
            let pending = status::of_match(query.has_unsupported);
            let patients = (level == QueryLevel::Patient).then(Patients::default);
            let write = |result: &Attributes, query: &FindQuery| {
                service.response_with(&pending, None, &query.answer(result), repertoire)
            };
            send_matches(&service, query, patients, write, &mut outbox).await?
        }
        Err(status) => status,
    };
    outbox.send(service.response(&status, None)).await
}

/// Sends all matches, and returns the final status.
async fn send_matches(
    service: &ServiceRequest,
    mut query: FindQuery,
    mut patients: Option<Patients>,
    write: impl Fn(&Attributes, &FindQuery) -> Vec<u8> + Send + Sync,
    outbox: &mut Outbox,
) -> Result<Status, Interruption> {
    let memory = service.acceptor.archive.response_memory_in_time(&service.caller, PAGE_BYTES).await;
    let _memory = match memory {
        Ok(memory) => memory,
        Err(error) => return Ok(status::of_failed_query(&error)),
    };
    loop {
        let mut page = Vec::new();
        let next = tokio::select! {
            biased;
            () = outbox.cancelled() => return Ok(status::of_cancelled()),
            next = read_page(service, &query, &mut patients, &write, &mut page) => next,
        };
        let next = match next {
            Ok(next) => next,
            Err(error) => return Ok(status::of_failed_query(&error)),
        };
        if !page.is_empty() {
            outbox.send(page).await?;
        }
        if patients.as_ref().is_some_and(|patients| patients.0.len() > MAX_PATIENTS) {
            return Ok(status::of_too_many_patients(MAX_PATIENTS));
        }
        if next.is_none() {
            return Ok(Status::SUCCESS);
        }
        query.query.after = next;
    }
}

/// Writes the responses of the next matches to `page`, and returns the place where the search goes on.
async fn read_page(
    service: &ServiceRequest,
    query: &FindQuery,
    patients: &mut Option<Patients>,
    write: &(impl Fn(&Attributes, &FindQuery) -> Vec<u8> + Send + Sync),
    page: &mut Vec<u8>,
) -> Result<Option<ResultPlace>, Error> {
    let _permit = service.acceptor.archive.permits().query(&service.caller).await;
    let mut sink = |result: Attributes| {
        if patients.as_mut().is_none_or(|patients| patients.is_new(&result)) {
            page.extend(write(&result, query));
        }
        page.len() < PAGE_BYTES
    };
    let found = service.acceptor.archive.search(&service.caller, &query.query, &mut sink).await?;
    Ok(found.next)
}

/// The patients that were found: one patient has many studies.
#[derive(Default)]
struct Patients(HashSet<u64>);

impl Patients {
    /// Whether the patient of a study was not found before.
    fn is_new(&mut self, result: &Attributes) -> bool {
        let text = |tag| result.get(&tag).and_then(Attribute::first_text).unwrap_or_default();
        let id = text(tags::PATIENT_ID);
        let mut hasher = DefaultHasher::new();
        (id, text(tags::ISSUER_OF_PATIENT_ID)).hash(&mut hasher);
        if id.is_empty() {
            (text(tags::PATIENT_NAME), text(tags::PATIENT_BIRTH_DATE)).hash(&mut hasher);
        }
        self.0.insert(hasher.finish())
    }
}
