//! Answers association requests: AE titles, presentation contexts and user information (PS3.8 §7.1, PS3.7 §D.3).
//! A pure function of request and settings.

use dicom_core::dictionary::UidDictionary;
use dicom_dictionary_std::sop_class::StandardSopClassDictionary;
use dicom_encoding::TransferSyntaxIndex;
use dicom_transfer_syntax_registry::TransferSyntaxRegistry;
use dicom_ul::pdu::{
    AssociationAC, AssociationRJ, AssociationRJResult, AssociationRJServiceProviderASCEReason,
    AssociationRJServiceProviderPresentationReason, AssociationRJServiceUserReason, AssociationRJSource,
    AssociationRQ, PresentationContextProposed, PresentationContextResult, PresentationContextResultReason,
    RequestorRoles, UserVariableItem,
};

use crate::config::Dimse;
use crate::dicom::uid::InstanceUid;
use crate::dimse::c_store::IMPLEMENTATION_CLASS_UID;

/// Verification SOP Class (PS3.4 §A.4).
pub const VERIFICATION: &str = "1.2.840.10008.1.1";

const IMPLEMENTATION_VERSION_NAME: &str = concat!("CUSPID_", env!("CARGO_PKG_VERSION"));
const APPLICATION_CONTEXT: &str = "1.2.840.10008.3.1.1.1";
const IMPLICIT_VR_LITTLE_ENDIAN: &str = "1.2.840.10008.1.2";
const ASYNCHRONOUS_OPERATIONS_WINDOW: u8 = 0x53;

/// What both sides agreed on.
#[derive(Debug, Clone)]
pub struct Agreement {
    /// The presentation contexts that were accepted.
    pub contexts: Vec<Context>,
    /// The longest P-DATA-TF that the peer takes, its header not counted; 0 for any.
    pub peer_max_pdu_bytes: u32,
    /// The A-ASSOCIATE-AC that says so.
    pub answer: AssociationAC,
}

/// A presentation context that was accepted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Context {
    /// Its odd number.
    pub id: u8,
    /// The SOP class.
    pub abstract_syntax: String,
    /// The transfer syntax of its data sets.
    pub transfer_syntax: String,
}

/// Decides on a request.
///
/// # Errors
/// The A-ASSOCIATE-RJ to answer with.
pub fn negotiate(request: &AssociationRQ, settings: &Dimse) -> Result<Agreement, AssociationRJ> {
    check(request, settings)?;
    let mut contexts: Vec<Context> = Vec::new();
    let mut results = Vec::with_capacity(request.presentation_contexts.len());
    for (place, proposed) in request.presentation_contexts.iter().enumerate() {
        let is_repeated = request.presentation_contexts[..place].iter().any(|other| other.id == proposed.id);
        let result = if is_repeated || proposed.id % 2 == 0 {
            Err(PresentationContextResultReason::UserRejection)
        } else {
            choose_transfer_syntax(proposed, &settings.accept_sop_classes)
        };
        let (reason, transfer_syntax) = match result {
            Ok(chosen) => (PresentationContextResultReason::Acceptance, chosen),
            // It must be there, but has no meaning (PS3.8 §9.3.3.2).
            Err(reason) => (reason, IMPLICIT_VR_LITTLE_ENDIAN.to_owned()),
        };
        if reason == PresentationContextResultReason::Acceptance {
            let abstract_syntax = uid_text(&proposed.abstract_syntax).to_owned();
            contexts.push(Context {
                id: proposed.id,
                abstract_syntax,
                transfer_syntax: transfer_syntax.clone(),
            });
        }
        results.push(PresentationContextResult { id: proposed.id, reason, transfer_syntax });
    }
    let peer_max_pdu_bytes = request.user_variables.iter().find_map(|item| match item {
        UserVariableItem::MaxLength(length) => Some(*length),
        _ => None,
    });
    let answer = AssociationAC {
        protocol_version: 1,
        calling_ae_title: request.calling_ae_title.clone(),
        called_ae_title: request.called_ae_title.clone(),
        application_context_name: APPLICATION_CONTEXT.to_owned(),
        presentation_contexts: results,
        user_variables: user_information(request, settings, &contexts),
    };
    Ok(Agreement { contexts, peer_max_pdu_bytes: peer_max_pdu_bytes.unwrap_or(0), answer })
}

/// The A-ASSOCIATE-RJ for a server that has no association left.
pub fn congestion() -> AssociationRJ {
    let reason = AssociationRJServiceProviderPresentationReason::TemporaryCongestion;
    AssociationRJ {
        result: AssociationRJResult::Transient,
        source: AssociationRJSource::ServiceProviderPresentation(reason),
    }
}

fn check(request: &AssociationRQ, settings: &Dimse) -> Result<(), AssociationRJ> {
    let reject = |source| Err(AssociationRJ { result: AssociationRJResult::Permanent, source });
    let user = AssociationRJSource::ServiceUser;
    if request.protocol_version & 1 == 0 {
        let reason = AssociationRJServiceProviderASCEReason::ProtocolVersionNotSupported;
        return reject(AssociationRJSource::ServiceProviderASCE(reason));
    }
    if uid_text(&request.application_context_name) != APPLICATION_CONTEXT {
        return reject(user(AssociationRJServiceUserReason::ApplicationContextNameNotSupported));
    }
    let called = request.called_ae_title.as_str();
    if called != settings.ae_title && !lists(&settings.accept_called, called) {
        return reject(user(AssociationRJServiceUserReason::CalledAETitleNotRecognized));
    }
    if !lists(&settings.accept_calling, &request.calling_ae_title) {
        return reject(user(AssociationRJServiceUserReason::CallingAETitleNotRecognized));
    }
    Ok(())
}

fn lists(titles: &[String], title: &str) -> bool {
    titles.iter().any(|listed| listed == "*" || listed == title)
}

/// The first transfer syntax that is known, in the proposer's order; else the first at all, since bytes are kept
/// as they come.
fn choose_transfer_syntax(
    proposed: &PresentationContextProposed,
    accept_sop_classes: &[String],
) -> Result<String, PresentationContextResultReason> {
    if !is_accepted(uid_text(&proposed.abstract_syntax), accept_sop_classes) {
        return Err(PresentationContextResultReason::AbstractSyntaxNotSupported);
    }
    let uids = || proposed.transfer_syntaxes.iter().map(|uid| uid_text(uid)).filter(|uid| is_uid(uid));
    uids()
        .find(|uid| TransferSyntaxRegistry.get(uid).is_some())
        .or_else(|| uids().next())
        .map(str::to_owned)
        .ok_or(PresentationContextResultReason::TransferSyntaxesNotSupported)
}

fn is_accepted(sop_class: &str, accept_sop_classes: &[String]) -> bool {
    if sop_class == VERIFICATION {
        return true;
    }
    if !accept_sop_classes.is_empty() {
        return accept_sop_classes.iter().any(|accepted| accepted == sop_class);
    }
    match StandardSopClassDictionary.by_uid(sop_class) {
        // The registry has no mark for storage; the keywords of all classes of PS3.4 §B.5 and §GG have the word.
        Some(entry) => {
            let is_other = ["StorageCommitment", "MediaStorageDirectory"];
            entry.alias.contains("Storage") && !is_other.iter().any(|other| entry.alias.starts_with(other))
        }
        None if sop_class.starts_with("1.2.840.10008.") => sop_class.starts_with("1.2.840.10008.5.1.4.1.1."),
        None => is_uid(sop_class),
    }
}

fn is_uid(text: &str) -> bool {
    text.parse::<InstanceUid>().is_ok()
}

/// A UID without the padding that some peers send though PS3.8 has none.
fn uid_text(uid: &str) -> &str {
    uid.trim_matches(['\0', ' '])
}

/// Answers user information items (PS3.7 §D.3.3). Extended negotiation stays unanswered, which means default
/// behaviour, as does a user identity.
fn user_information(
    request: &AssociationRQ,
    settings: &Dimse,
    contexts: &[Context],
) -> Vec<UserVariableItem> {
    let mut items = vec![
        UserVariableItem::MaxLength(settings.max_pdu_bytes),
        UserVariableItem::ImplementationClassUID(IMPLEMENTATION_CLASS_UID.to_owned()),
    ];
    for item in &request.user_variables {
        match item {
            UserVariableItem::Unknown(ASYNCHRONOUS_OPERATIONS_WINDOW, window) => {
                let [high, low, ..] = window[..] else { continue };
                let window = operations(u16::from_be_bytes([high, low]), settings.max_operations);
                let [high, low] = window.to_be_bytes();
                let value = vec![high, low, 0, 1];
                items.push(UserVariableItem::Unknown(ASYNCHRONOUS_OPERATIONS_WINDOW, value));
            }
            UserVariableItem::ScuScpRoleSelectionSubItem(sop_class, roles)
                if contexts.iter().any(|context| context.abstract_syntax == *sop_class) =>
            {
                let roles = RequestorRoles { scu: roles.scu, scp: false };
                items.push(UserVariableItem::ScuScpRoleSelectionSubItem(sop_class.clone(), roles));
            }
            _ => {}
        }
    }
    items.push(UserVariableItem::ImplementationVersionName(IMPLEMENTATION_VERSION_NAME.to_owned()));
    items
}

/// Operations that the requestor may have outstanding, of those that it proposed (0 for any number).
fn operations(proposed: u16, limit: u16) -> u16 {
    match proposed {
        0 => limit.max(1),
        _ => proposed.min(limit.max(1)),
    }
}
