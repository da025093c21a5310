//! Negotiates associations: AE titles, presentation contexts and user information (PS3.8 §7.1, PS3.7 §D.3).
//! The answer is a pure function of request and settings.

use dicom_ul::pdu::{
    AssociationAC, AssociationRJ, AssociationRJResult, AssociationRJServiceProviderASCEReason,
    AssociationRJServiceProviderPresentationReason, AssociationRJServiceUserReason, AssociationRJSource,
    AssociationRQ, PresentationContextProposed, PresentationContextResult, PresentationContextResultReason,
    RequestorRoles, UserVariableItem,
};

use crate::archive::access::Caller;
use crate::config::{DimseSettings, PeerOperation, PeerOperations};
use crate::dicom::data_set::DataSetEncoding;
use crate::dicom::explicit::IMPLEMENTATION_CLASS_UID;
use crate::dicom::transfer_syntax;
use crate::dicom::uid::InstanceUid;
use crate::dicom::uids;
use crate::digest::ObjectDigest;
use crate::dimse::callers::{Callers, KnownPeer};
use crate::dimse::models::{self, QueryOptions, QueryService};

/// Implementation Version Name of this software.
pub const IMPLEMENTATION_VERSION_NAME: &str = concat!("CUSPID_", env!("CARGO_PKG_VERSION"));

const ASYNCHRONOUS_OPERATIONS_WINDOW: u8 = 0x53;

/// The result of a negotiation.
#[derive(Debug, Clone)]
pub struct Agreement {
    /// The caller.
    pub caller: Caller,
    /// The presentation contexts that were accepted.
    pub contexts: Vec<PresentationContext>,
    /// The longest P-DATA-TF that the peer accepts, its header not counted; 0 for no limit.
    pub peer_max_pdu_bytes: u32,
    /// The operations of the peer that may be outstanding; one without an asynchronous operations window
    /// (PS3.7 §D.3.3.3).
    pub max_operations: usize,
    /// The A-ASSOCIATE-AC to send.
    pub answer: AssociationAC,
}

/// A presentation context that was accepted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PresentationContext {
    /// The presentation context ID, an odd number.
    pub id: u8,
    /// The SOP class.
    pub abstract_syntax: String,
    /// The transfer syntax of its data sets.
    pub transfer_syntax: String,
    /// Whether the peer may store in this context.
    pub may_store: bool,
    /// Whether the peer is an SCP of storage: it takes instances in this context.
    pub takes_instances: bool,
    /// The options of a query/retrieve SOP class.
    pub options: QueryOptions,
}

impl PresentationContext {
    /// The encoding of data sets in a presentation context of a query/retrieve SOP class.
    pub fn encoding(&self) -> DataSetEncoding {
        match self.transfer_syntax == transfer_syntax::IMPLICIT_VR_LITTLE_ENDIAN {
            true => DataSetEncoding::Implicit,
            false => DataSetEncoding::Explicit,
        }
    }
}

/// Accepts or rejects an association request.
///
/// # Errors
/// The A-ASSOCIATE-RJ to send.
pub fn negotiate(
    request: &AssociationRQ,
    settings: &DimseSettings,
    callers: &Callers,
) -> Result<Agreement, AssociationRJ> {
    let KnownPeer { caller, operations } = authorize(request, settings, callers)?;
    let mut contexts: Vec<PresentationContext> = Vec::new();
    let mut results = Vec::with_capacity(request.presentation_contexts.len());
    let mut seen = [false; 256];
    for proposed in &request.presentation_contexts {
        let is_repeated = std::mem::replace(&mut seen[usize::from(proposed.id)], true);
        let result = if is_repeated || proposed.id % 2 == 0 {
            Err(PresentationContextResultReason::UserRejection)
        } else {
            accept(proposed, roles_of(request, uid_text(&proposed.abstract_syntax)), settings, operations)
        };
        let (reason, transfer_syntax) = match result {
            Ok(chosen) => (PresentationContextResultReason::Acceptance, chosen),
            // Required also in a rejected context, but without meaning there (PS3.8 §9.3.3.2).
            Err(reason) => (reason, transfer_syntax::IMPLICIT_VR_LITTLE_ENDIAN.to_owned()),
        };
        if reason == PresentationContextResultReason::Acceptance {
            let abstract_syntax = uid_text(&proposed.abstract_syntax).to_owned();
            contexts.push(PresentationContext {
                id: proposed.id,
                may_store: operations.include(PeerOperation::Store)
                    && is_accepted(&abstract_syntax, &settings.accept_sop_classes),
                takes_instances: takes_instances(request, &abstract_syntax, operations),
                options: extended(request, &abstract_syntax).map(|(options, _)| options).unwrap_or_default(),
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
        application_context_name: uids::DICOM_APPLICATION_CONTEXT.to_owned(),
        presentation_contexts: results,
        user_variables: user_information(request, settings, &contexts, operations),
    };
    let max_operations = usize::from(
        proposed_window(request).map_or(1, |proposed| operations_window(proposed, settings.max_operations)),
    );
    let peer_max_pdu_bytes = peer_max_pdu_bytes.unwrap_or(0);
    Ok(Agreement { caller, contexts, peer_max_pdu_bytes, max_operations, answer })
}

/// The A-ASSOCIATE-RJ of a server that has reached `dimse.max_associations`.
pub fn congestion() -> AssociationRJ {
    let reason = AssociationRJServiceProviderPresentationReason::TemporaryCongestion;
    AssociationRJ {
        result: AssociationRJResult::Transient,
        source: AssociationRJSource::ServiceProviderPresentation(reason),
    }
}

/// Rejects an AE title that may call by other certificates only (setting `dimse.tls_fingerprints`).
pub fn authenticate(
    request: &AssociationRQ,
    fingerprint: Option<&ObjectDigest>,
    settings: &DimseSettings,
) -> Result<(), AssociationRJ> {
    let calling = request.calling_ae_title.trim();
    let mut of_title = settings.tls_fingerprints.iter().filter(|rule| rule.ae_title == calling).peekable();
    if of_title.peek().is_none() || of_title.any(|rule| Some(&rule.fingerprint) == fingerprint) {
        return Ok(());
    }
    let reason = AssociationRJServiceUserReason::CallingAETitleNotRecognized;
    let source = AssociationRJSource::ServiceUser(reason);
    Err(AssociationRJ { result: AssociationRJResult::Permanent, source })
}

/// Finds the caller, if the association is allowed.
fn authorize(
    request: &AssociationRQ,
    settings: &DimseSettings,
    callers: &Callers,
) -> Result<KnownPeer, AssociationRJ> {
    let reject = |source| Err(AssociationRJ { result: AssociationRJResult::Permanent, source });
    let user = AssociationRJSource::ServiceUser;
    if request.protocol_version & 1 == 0 {
        let reason = AssociationRJServiceProviderASCEReason::ProtocolVersionNotSupported;
        return reject(AssociationRJSource::ServiceProviderASCE(reason));
    }
    if uid_text(&request.application_context_name) != uids::DICOM_APPLICATION_CONTEXT {
        return reject(user(AssociationRJServiceUserReason::ApplicationContextNameNotSupported));
    }
    let called = request.called_ae_title.as_str();
    if called != settings.ae_title && !lists(&settings.accept_called, called) {
        return reject(user(AssociationRJServiceUserReason::CalledAETitleNotRecognized));
    }
    if !lists(&settings.accept_calling, &request.calling_ae_title) {
        return reject(user(AssociationRJServiceUserReason::CallingAETitleNotRecognized));
    }
    match callers.find(&request.calling_ae_title, called) {
        Some(peer) => Ok(peer),
        None => reject(user(AssociationRJServiceUserReason::CallingAETitleNotRecognized)),
    }
}

fn lists(titles: &[String], title: &str) -> bool {
    titles.iter().any(|listed| listed == "*" || listed == title)
}

/// The roles that the requestor proposes for a SOP class; SCU by default (PS3.7 §D.3.3.4).
fn roles_of(request: &AssociationRQ, sop_class: &str) -> RequestorRoles {
    let roles = request.user_variables.iter().find_map(|item| match item {
        UserVariableItem::ScuScpRoleSelectionSubItem(class, roles) if uid_text(class) == sop_class => {
            Some(*roles)
        }
        _ => None,
    });
    roles.unwrap_or(RequestorRoles { scu: true, scp: false })
}

/// Whether the requestor takes instances of a SOP class, by C-GET.
fn takes_instances(request: &AssociationRQ, sop_class: &str, operations: PeerOperations) -> bool {
    roles_of(request, sop_class).scp
        && operations.include(PeerOperation::Get)
        && is_uid(sop_class)
        && uids::is_storage(sop_class)
}

/// The options that are negotiated for a query/retrieve SOP class, and the information for the answer.
fn extended(request: &AssociationRQ, sop_class: &str) -> Option<(QueryOptions, Vec<u8>)> {
    let (_, service) = models::of_sop_class(sop_class)?;
    request.user_variables.iter().find_map(|item| match item {
        UserVariableItem::SopClassExtendedNegotiationSubItem(class, proposed)
            if uid_text(class) == sop_class =>
        {
            Some(QueryOptions::negotiate(service, proposed))
        }
        _ => None,
    })
}

/// Accepts a presentation context with one of its transfer syntaxes.
fn accept(
    proposed: &PresentationContextProposed,
    roles: RequestorRoles,
    settings: &DimseSettings,
    operations: PeerOperations,
) -> Result<String, PresentationContextResultReason> {
    use PresentationContextResultReason::{AbstractSyntaxNotSupported, UserRejection};
    let sop_class = uid_text(&proposed.abstract_syntax);
    let service = match models::of_sop_class(sop_class) {
        Some((_, QueryService::Find)) => Some(PeerOperation::Find),
        Some((_, QueryService::Move)) => Some(PeerOperation::Move),
        Some((_, QueryService::Get)) => Some(PeerOperation::Get),
        None if sop_class == uids::STORAGE_COMMITMENT_PUSH_MODEL => Some(PeerOperation::Commit),
        None => None,
    };
    if let Some(operation) = service {
        return match operations.include(operation) {
            true => choose_plain_syntax(proposed, false),
            false => Err(UserRejection),
        };
    }
    if sop_class == uids::VERIFICATION {
        return choose_transfer_syntax(proposed);
    }
    if roles.scp && operations.include(PeerOperation::Get) && is_uid(sop_class) && uids::is_storage(sop_class)
    {
        // Everything that can be decoded can be sent in explicit VR.
        return choose_plain_syntax(proposed, true).or_else(|_| choose_transfer_syntax(proposed));
    }
    if !is_accepted(sop_class, &settings.accept_sop_classes) {
        return Err(AbstractSyntaxNotSupported);
    }
    if !operations.include(PeerOperation::Store) {
        return Err(UserRejection);
    }
    choose_transfer_syntax(proposed)
}

fn proposed_syntaxes(proposed: &PresentationContextProposed) -> impl Iterator<Item = &str> {
    proposed.transfer_syntaxes.iter().map(|uid| uid_text(uid)).filter(|uid| is_uid(uid))
}

/// Chooses Explicit or Implicit VR Little Endian: the first, or explicit VR wherever it stands.
fn choose_plain_syntax(
    proposed: &PresentationContextProposed,
    prefers_explicit: bool,
) -> Result<String, PresentationContextResultReason> {
    let explicit = transfer_syntax::EXPLICIT_VR_LITTLE_ENDIAN;
    let is_plain = |uid: &&str| [explicit, transfer_syntax::IMPLICIT_VR_LITTLE_ENDIAN].contains(uid);
    let preferred = proposed_syntaxes(proposed).find(|uid| prefers_explicit && *uid == explicit);
    let chosen = preferred.or_else(|| proposed_syntaxes(proposed).find(is_plain)).map(str::to_owned);
    chosen.ok_or(PresentationContextResultReason::TransferSyntaxesNotSupported)
}

/// Chooses the first transfer syntax of the standard, in the order of the requestor; else the first private
/// one, since instances are stored as they are received.
fn choose_transfer_syntax(
    proposed: &PresentationContextProposed,
) -> Result<String, PresentationContextResultReason> {
    proposed_syntaxes(proposed)
        .find(|uid| transfer_syntax::STANDARD.contains(uid))
        .or_else(|| proposed_syntaxes(proposed).next())
        .map(str::to_owned)
        .ok_or(PresentationContextResultReason::TransferSyntaxesNotSupported)
}

fn is_accepted(sop_class: &str, accept_sop_classes: &[String]) -> bool {
    if uids::is_non_patient_object(sop_class) {
        return false;
    }
    if !accept_sop_classes.is_empty() {
        return accept_sop_classes.iter().any(|accepted| accepted == sop_class);
    }
    is_uid(sop_class) && uids::is_storage(sop_class)
}

fn is_uid(text: &str) -> bool {
    text.parse::<InstanceUid>().is_ok()
}

/// A UID without the padding that some peers send though PS3.8 has none.
fn uid_text(uid: &str) -> &str {
    uid.trim_matches(['\0', ' '])
}

/// Answers user information items (PS3.7 §D.3.3). User identity gets no answer, which means default
/// behaviour.
fn user_information(
    request: &AssociationRQ,
    settings: &DimseSettings,
    contexts: &[PresentationContext],
    operations: PeerOperations,
) -> Vec<UserVariableItem> {
    let is_accepted = |class: &str| contexts.iter().any(|context| context.abstract_syntax == uid_text(class));
    let mut items = vec![
        UserVariableItem::MaxLength(settings.max_pdu_bytes),
        UserVariableItem::ImplementationClassUID(IMPLEMENTATION_CLASS_UID.to_owned()),
    ];
    for item in &request.user_variables {
        match item {
            UserVariableItem::Unknown(ASYNCHRONOUS_OPERATIONS_WINDOW, window) => {
                let [high, low, ..] = window[..] else { continue };
                let window = operations_window(u16::from_be_bytes([high, low]), settings.max_operations);
                let [high, low] = window.to_be_bytes();
                let value = vec![high, low, 0, 1];
                items.push(UserVariableItem::Unknown(ASYNCHRONOUS_OPERATIONS_WINDOW, value));
            }
            UserVariableItem::ScuScpRoleSelectionSubItem(sop_class, roles) if is_accepted(sop_class) => {
                let scp = takes_instances(request, uid_text(sop_class), operations);
                let roles = RequestorRoles { scu: roles.scu, scp };
                items.push(UserVariableItem::ScuScpRoleSelectionSubItem(sop_class.clone(), roles));
            }
            UserVariableItem::SopClassExtendedNegotiationSubItem(sop_class, _) if is_accepted(sop_class) => {
                if let Some((_, answer)) = extended(request, uid_text(sop_class)) {
                    items.push(UserVariableItem::SopClassExtendedNegotiationSubItem(
                        sop_class.clone(),
                        answer,
                    ));
                }
            }
            _ => {}
        }
    }
    items.push(UserVariableItem::ImplementationVersionName(IMPLEMENTATION_VERSION_NAME.to_owned()));
    items
}

/// Operations that the requestor may have outstanding, of those that it proposed (0 for any number).
/// The operations that a peer proposes to have outstanding; `None` without a proposal.
fn proposed_window(request: &AssociationRQ) -> Option<u16> {
    request.user_variables.iter().find_map(|item| match item {
        UserVariableItem::Unknown(ASYNCHRONOUS_OPERATIONS_WINDOW, window) => {
            window.first_chunk().map(|window| u16::from_be_bytes(*window))
        }
        _ => None,
    })
}

fn operations_window(proposed: u16, limit: u16) -> u16 {
    match proposed {
        0 => limit.max(1),
        _ => proposed.min(limit.max(1)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Config;
    use crate::dicom::transfer_syntax::{
        EXPLICIT_VR_LITTLE_ENDIAN as EXPLICIT, IMPLICIT_VR_LITTLE_ENDIAN, JPEG_BASELINE8_BIT as JPEG,
    };
    use crate::dicom::uids::{
        CT_IMAGE_STORAGE as CT, DICOM_APPLICATION_CONTEXT as APPLICATION_CONTEXT, VERIFICATION,
    };

    fn request(contexts: &[(u8, &str, &[&str])]) -> AssociationRQ {
        let proposed = |(id, class, syntaxes): &(u8, &str, &[&str])| PresentationContextProposed {
            id: *id,
            abstract_syntax: class.to_string(),
            transfer_syntaxes: syntaxes.iter().map(|syntax| syntax.to_string()).collect(),
        };
        AssociationRQ {
            protocol_version: 1,
            calling_ae_title: "MODALITY".into(),
            called_ae_title: "CUSPID".into(),
            application_context_name: APPLICATION_CONTEXT.into(),
            presentation_contexts: contexts.iter().map(proposed).collect(),
            user_variables: vec![UserVariableItem::MaxLength(16384)],
        }
    }

    fn settings() -> DimseSettings {
        Config::defaults().dimse
    }

    fn anyone() -> Callers {
        Callers::of(&Config::defaults())
    }

    #[test]
    fn each_context_gets_its_own_result() {
        use PresentationContextResultReason::*;
        for (context, expected) in [
            ((1, CT, &[EXPLICIT, IMPLICIT_VR_LITTLE_ENDIAN][..]), Ok(EXPLICIT)),
            ((1, CT, &[IMPLICIT_VR_LITTLE_ENDIAN, EXPLICIT]), Ok(IMPLICIT_VR_LITTLE_ENDIAN)),
            ((1, CT, &["1.2.3.4", JPEG]), Ok(JPEG)),
            ((1, CT, &["1.2.3.4", "1.2.3.5"]), Ok("1.2.3.4")),
            ((1, CT, &["1.2.840.10008.1.2.1\0"]), Ok(EXPLICIT)),
            ((1, CT, &["../../x"]), Err(TransferSyntaxesNotSupported)),
            ((1, CT, &[]), Err(TransferSyntaxesNotSupported)),
            ((2, CT, &[EXPLICIT]), Err(UserRejection)),
            ((1, VERIFICATION, &[EXPLICIT]), Ok(EXPLICIT)),
            ((1, "1.3.12.2.1107.5.9.1", &[EXPLICIT]), Ok(EXPLICIT)),
            ((1, "1.2.840.10008.5.1.4.1.1.999.1", &[EXPLICIT]), Ok(EXPLICIT)),
            ((1, "1.2.840.10008.5.1.4.34.7", &[EXPLICIT]), Ok(EXPLICIT)),
            // Non-patient objects have no study to be stored in.
            ((1, "1.2.840.10008.5.1.4.38.1", &[EXPLICIT]), Err(AbstractSyntaxNotSupported)),
            ((1, "1.2.840.10008.5.1.4.1.1.200.1", &[EXPLICIT]), Err(AbstractSyntaxNotSupported)),
            ((1, "1.2.840.10008.5.1.4.1.2.2.1", &[EXPLICIT]), Ok(EXPLICIT)),
            (
                (1, "1.2.840.10008.5.1.4.1.2.1.2", &[JPEG, IMPLICIT_VR_LITTLE_ENDIAN]),
                Ok(IMPLICIT_VR_LITTLE_ENDIAN),
            ),
            ((1, "1.2.840.10008.5.1.4.1.2.1.3", &[JPEG]), Err(TransferSyntaxesNotSupported)),
            ((1, "1.2.840.10008.5.1.4.31", &[EXPLICIT]), Err(AbstractSyntaxNotSupported)),
            ((1, "1.2.840.10008.5.1.4.1.1.200.4", &[EXPLICIT]), Err(AbstractSyntaxNotSupported)),
            ((1, "1.2.840.10008.1.20.1", &[EXPLICIT]), Ok(EXPLICIT)),
            ((1, "1.2.840.10008.1.20.2", &[EXPLICIT]), Err(AbstractSyntaxNotSupported)),
            ((1, "", &[EXPLICIT]), Err(AbstractSyntaxNotSupported)),
        ] {
            let agreement = negotiate(&request(&[context]), &settings(), &anyone()).unwrap();
            let accepted = agreement.contexts.first().map(|context| context.transfer_syntax.as_str());
            assert_eq!(accepted, expected.as_ref().ok().copied(), "{context:?}");
            let reason = expected.err().unwrap_or(Acceptance);
            assert_eq!(agreement.answer.presentation_contexts[0].reason, reason, "{context:?}");
        }
    }

    #[test]
    fn a_repeated_context_id_counts_once() {
        let agreement =
            negotiate(&request(&[(1, CT, &[EXPLICIT]), (1, CT, &[JPEG])]), &settings(), &anyone()).unwrap();
        assert_eq!(agreement.contexts.len(), 1);
        assert_eq!(agreement.contexts[0].transfer_syntax, EXPLICIT);
    }

    #[test]
    fn the_setting_narrows_what_is_stored_but_not_verification() {
        let settings = DimseSettings { accept_sop_classes: vec![CT.into()], ..settings() };
        let proposed = [(1, CT, &[EXPLICIT][..]), (3, "1.2.3", &[EXPLICIT]), (5, VERIFICATION, &[EXPLICIT])];
        let agreement = negotiate(&request(&proposed), &settings, &anyone()).unwrap();
        assert_eq!(agreement.contexts.iter().map(|context| context.id).collect::<Vec<_>>(), [1, 5]);
    }

    #[test]
    fn strangers_are_rejected_with_the_reason() {
        let strict =
            DimseSettings { accept_called: vec![], accept_calling: vec!["MODALITY".into()], ..settings() };
        assert!(negotiate(&request(&[]), &strict, &anyone()).is_ok());
        type Change = fn(&mut AssociationRQ);
        let cases: [(Change, &str); 4] = [
            (|request| request.called_ae_title = "OTHER".into(), "called AE title not recognized"),
            (|request| request.calling_ae_title = "OTHER".into(), "calling AE title not recognized"),
            (|request| request.protocol_version = 2, "protocol version not supported"),
            (
                |request| request.application_context_name = "1.2".into(),
                "application context name not supported",
            ),
        ];
        for (change, reason) in cases {
            let mut request = request(&[]);
            change(&mut request);
            let rejection = negotiate(&request, &strict, &anyone()).unwrap_err();
            assert_eq!(rejection.source.to_string(), reason);
            assert_eq!(rejection.result, AssociationRJResult::Permanent);
        }
    }

    #[test]
    fn with_authentication_only_titles_with_a_tenant_may_call() {
        let mut config = Config::defaults();
        config.auth.issuer = "https://a.example".into();
        config.dimse.tenants = vec!["MODALITY=clinic-a".to_owned().try_into().unwrap()];
        let callers = Callers::of(&config);
        let mut request = request(&[]);
        let agreement = negotiate(&request, &config.dimse, &callers).unwrap();
        assert_eq!(agreement.caller.tenant.as_str(), "clinic-a");
        request.calling_ae_title = "STRANGER".into();
        let rejection = negotiate(&request, &config.dimse, &callers).unwrap_err();
        assert_eq!(rejection.source.to_string(), "calling AE title not recognized");
        assert_eq!(rejection.result, AssociationRJResult::Permanent);
    }

    #[test]
    fn the_operations_window_is_never_wider_than_proposed() {
        for (proposed, limit, granted) in [(0, 16, 16), (4, 16, 4), (40, 16, 16), (1, 16, 1), (5, 0, 1)] {
            let mut request = request(&[]);
            let window = vec![0, proposed, 0, 1];
            request.user_variables.push(UserVariableItem::Unknown(ASYNCHRONOUS_OPERATIONS_WINDOW, window));
            let settings = DimseSettings { max_operations: limit, ..settings() };
            let agreement = negotiate(&request, &settings, &anyone()).unwrap();
            assert_eq!(agreement.max_operations, usize::from(granted), "{proposed} of {limit}");
            let answer = agreement.answer;
            let granted = UserVariableItem::Unknown(ASYNCHRONOUS_OPERATIONS_WINDOW, vec![0, granted, 0, 1]);
            assert!(answer.user_variables.contains(&granted), "{proposed} of {limit}");
        }
        let agreement = negotiate(&request(&[]), &settings(), &anyone()).unwrap();
        assert_eq!(agreement.max_operations, 1);
        let answer = agreement.answer;
        let is_window = |item: &UserVariableItem| matches!(item, UserVariableItem::Unknown(..));
        assert!(!answer.user_variables.iter().any(is_window), "answered without a question");
    }

    #[test]
    fn a_requestor_that_may_get_takes_instances() {
        let mut request = request(&[(1, CT, &[IMPLICIT_VR_LITTLE_ENDIAN, EXPLICIT])]);
        let both = RequestorRoles { scu: true, scp: true };
        for class in [CT, "1.2.3"] {
            let item = UserVariableItem::ScuScpRoleSelectionSubItem(class.into(), both);
            request.user_variables.push(item);
        }
        for (peers, scp) in [(vec![], true), (vec!["*=store"], false)] {
            let mut config = Config::defaults();
            config.dimse.peers = peers.iter().map(|peer| peer.to_string().try_into().unwrap()).collect();
            let agreement = negotiate(&request, &config.dimse, &Callers::of(&config)).unwrap();
            let context = &agreement.contexts[0];
            assert_eq!(context.takes_instances, scp);
            assert!(context.may_store);
            assert_eq!(context.transfer_syntax, if scp { EXPLICIT } else { IMPLICIT_VR_LITTLE_ENDIAN });
            let roles: Vec<_> = agreement
                .answer
                .user_variables
                .iter()
                .filter_map(|item| match item {
                    UserVariableItem::ScuScpRoleSelectionSubItem(class, roles) => {
                        Some((class.as_str(), *roles))
                    }
                    _ => None,
                })
                .collect();
            assert_eq!(roles, [(CT, RequestorRoles { scu: true, scp })]);
        }
    }

    #[test]
    fn a_peer_proposes_only_what_it_may_do() {
        use PresentationContextResultReason::{Acceptance, UserRejection};
        let mut config = Config::defaults();
        config.dimse.peers = vec!["MODALITY=find".to_owned().try_into().unwrap()];
        let find = "1.2.840.10008.5.1.4.1.2.2.1";
        let proposed = [
            (1, find, &[EXPLICIT][..]),
            (3, CT, &[EXPLICIT]),
            (5, "1.2.840.10008.5.1.4.1.2.2.2", &[EXPLICIT]),
            (7, "1.2.840.10008.1.20.1", &[EXPLICIT]),
            (9, VERIFICATION, &[EXPLICIT]),
        ];
        let agreement = negotiate(&request(&proposed), &config.dimse, &Callers::of(&config)).unwrap();
        let reasons = agreement.answer.presentation_contexts.iter().map(|result| result.reason.clone());
        assert_eq!(
            reasons.collect::<Vec<_>>(),
            [Acceptance, UserRejection, UserRejection, UserRejection, Acceptance]
        );
        let mut request = request(&proposed);
        request.calling_ae_title = "STRANGER".into();
        let rejection = negotiate(&request, &config.dimse, &Callers::of(&config)).unwrap_err();
        assert_eq!(rejection.source.to_string(), "calling AE title not recognized");
    }
}
