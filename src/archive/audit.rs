//! The events of the archive in the audit log (docs/audit.md): the protocol layers say what was given out,
//! and the archive itself records what was stored and deleted.

use std::path::Path;
use std::time::Duration;

use crate::archive::access::{Caller, Tenant};
use crate::archive::ingest::StoredInstance;
use crate::archive::scope::Scope;
use crate::archive::shares::ShareRecord;
use crate::archive::{Archive, Error};
use crate::audit::event::{
    AuditAction, AuditEntry, AuditEvent, AuditEventType, AuditOutcome, AuditProtocol, AuditTransfer,
    AuditUser,
};
use crate::audit::{AuditLog, SERVER_LOG};
use crate::config::Config;
use crate::dicom::attributes::Attribute;
use crate::dicom::tags;
use crate::dicom::uid::StudyUid;

/// The time for which the first use of a token stands for all by the same subject at the same address.
const SESSION: Duration = Duration::from_secs(8 * 60 * 60);

/// A way in which a study's data are given out.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum StudyAccess {
    /// Metadata, frames, bulk data or rendered images: one record for a period.
    Viewed,
    /// Thumbnails, which a list of studies shows: one record for a period.
    Thumbnails,
    /// Single instances: one record for a period.
    Instances,
    /// All instances of a study or series: a record each time.
    Whole,
}

/// The group of events that share a record: the user, the address, the kind of event, and the object.
type Group<'a> = (&'a str, &'a str, &'static str, &'a str);

impl Archive {
    /// The audit log.
    pub fn audit(&self) -> &AuditLog {
        &self.audit
    }

    /// Records that data of a study are about to be given out.
    pub async fn audit_access(
        &self,
        caller: &Caller,
        study: &StudyUid,
        access: StudyAccess,
    ) -> Result<(), Error> {
        let make = self.access_entry(caller, study, access);
        let kind = match access {
            StudyAccess::Whole => return self.record(caller, make.await?).await,
            StudyAccess::Viewed => "view",
            StudyAccess::Thumbnails => "thumbnails",
            StudyAccess::Instances => "instances",
        };
        self.record_once(caller, kind, study.as_str(), make).await
    }

    async fn access_entry(
        &self,
        caller: &Caller,
        study: &StudyUid,
        access: StudyAccess,
    ) -> Result<AuditEntry, Error> {
        let patient = self.patient_of(&caller.tenant, study).await?;
        let (event, transfer, detail) = match access {
            StudyAccess::Viewed => (AuditEvent::InstancesAccessed, None, None),
            StudyAccess::Thumbnails => (AuditEvent::InstancesAccessed, None, Some("thumbnails")),
            StudyAccess::Instances => {
                (AuditEvent::InstancesTransferred, Some(AuditTransfer::Sent), Some("single instances"))
            }
            StudyAccess::Whole => (AuditEvent::InstancesTransferred, Some(AuditTransfer::Sent), None),
        };
        Ok(AuditEntry {
            study: Some(study.to_string()),
            patient,
            transfer,
            detail: detail.map(str::to_owned),
            ..AuditEntry::of(event, AuditAction::R, caller.audit_user())
        })
    }

    /// Records a query. `group` is the text that equal queries share, without the place in the results.
    pub async fn audit_query(
        &self,
        caller: &Caller,
        study: Option<&str>,
        query: &str,
        group: &str,
    ) -> Result<(), Error> {
        let make = async {
            let study = study.map(str::to_owned);
            let query = Some(query.to_owned());
            Ok(AuditEntry {
                study,
                query,
                ..AuditEntry::of(AuditEvent::Query, AuditAction::E, caller.audit_user())
            })
        };
        self.record_once(caller, "query", group, make).await
    }

    /// Records that an instance was received.
    pub(in crate::archive) async fn audit_stored(
        &self,
        caller: &Caller,
        study: &StudyUid,
        patient: Option<String>,
        stored: &StoredInstance,
    ) -> Result<(), Error> {
        let (kind, action) = match (stored.is_duplicate, stored.has_replaced) {
            (true, _) => ("duplicate", AuditAction::R),
            (_, true) => ("replaced", AuditAction::U),
            _ => ("stored", AuditAction::C),
        };
        let make = async {
            Ok(AuditEntry {
                study: Some(study.to_string()),
                patient: patient.filter(|patient| !patient.is_empty()),
                transfer: Some(AuditTransfer::Received),
                ..AuditEntry::of(AuditEvent::InstancesTransferred, action, caller.audit_user())
            })
        };
        self.record_group(caller, kind, study.as_str(), make).await
    }

    /// Records that a study, a series or an instance is about to be deleted. Returns the entry, for
    /// [`Archive::audit_failure`].
    pub(in crate::archive) async fn audit_deletion(
        &self,
        caller: &Caller,
        scope: &Scope,
    ) -> Result<AuditEntry, Error> {
        let patient = self.patient_of(&caller.tenant, &scope.study).await?;
        let (event, detail) = match (&scope.series, &scope.instance) {
            (None, _) => (AuditEvent::StudyDeleted, None),
            (Some(series), None) => (AuditEvent::InstancesAccessed, Some(format!("series {series}"))),
            (Some(_), Some(instance)) => {
                (AuditEvent::InstancesAccessed, Some(format!("instance {instance}")))
            }
        };
        let entry = AuditEntry {
            study: Some(scope.study.to_string()),
            patient,
            detail,
            ..AuditEntry::of(event, AuditAction::D, caller.audit_user())
        };
        self.record(caller, entry.clone()).await?;
        Ok(entry)
    }

    /// Records that the event of an earlier entry failed.
    pub(in crate::archive) async fn audit_failure(
        &self,
        caller: &Caller,
        entry: AuditEntry,
    ) -> Result<(), Error> {
        self.record(caller, AuditEntry { outcome: AuditOutcome::SeriousFailure, ..entry }).await
    }

    /// Records that instances of a study are about to be sent to an AE.
    pub async fn audit_transfer_begins(
        &self,
        caller: &Caller,
        study: &StudyUid,
        destination: Option<&str>,
    ) -> Result<(), Error> {
        let entry = AuditEntry {
            study: Some(study.to_string()),
            patient: self.patient_of(&caller.tenant, study).await?,
            transfer: Some(AuditTransfer::Sent),
            destination: destination.map(str::to_owned),
            ..AuditEntry::of(AuditEvent::BeginTransferring, AuditAction::E, caller.audit_user())
        };
        self.record(caller, entry).await
    }

    /// Records that instances of a study were sent to an AE, some of them not if `failed` is not 0.
    pub async fn audit_transfer_ends(
        &self,
        caller: &Caller,
        study: &StudyUid,
        destination: Option<&str>,
        (sent, failed): (u64, u64),
    ) -> Result<(), Error> {
        let outcome = match (sent, failed) {
            (_, 0) => AuditOutcome::Success,
            (0, _) => AuditOutcome::SeriousFailure,
            _ => AuditOutcome::MinorFailure,
        };
        let entry = AuditEntry {
            outcome,
            study: Some(study.to_string()),
            patient: self.patient_of(&caller.tenant, study).await?,
            transfer: Some(AuditTransfer::Sent),
            destination: destination.map(str::to_owned),
            instances: Some(sent),
            detail: (failed > 0).then(|| format!("{failed} instances were not sent")),
            ..AuditEntry::of(AuditEvent::InstancesTransferred, AuditAction::R, caller.audit_user())
        };
        self.record(caller, entry).await
    }

    /// Records that a caller lacks a right. `operation` names what was refused, without UIDs.
    pub async fn audit_missing_right(&self, caller: &Caller, operation: &str) -> Result<(), Error> {
        let make = async {
            Ok(AuditEntry {
                event_type: Some(AuditEventType::RestrictedFunction),
                outcome: AuditOutcome::MinorFailure,
                detail: Some(operation.to_owned()),
                ..AuditEntry::of(AuditEvent::SecurityAlert, AuditAction::E, caller.audit_user())
            })
        };
        self.record_once(caller, "right", operation, make).await
    }

    /// Records that a share is about to be made or revoked.
    pub(in crate::archive) async fn audit_share(
        &self,
        caller: &Caller,
        study: &StudyUid,
        detail: String,
    ) -> Result<(), Error> {
        let entry = AuditEntry {
            event_type: Some(AuditEventType::ObjectSecurity),
            study: Some(study.to_string()),
            patient: self.patient_of(&caller.tenant, study).await?,
            detail: Some(detail),
            ..AuditEntry::of(AuditEvent::SecurityAlert, AuditAction::E, caller.audit_user())
        };
        self.record(caller, entry).await
    }

    /// Records that the link of a share was opened, or was tried with a wrong code.
    pub(in crate::archive) async fn audit_link(
        &self,
        tenant: &Tenant,
        share: &ShareRecord,
        address: &str,
        is_opened: bool,
    ) -> Result<(), Error> {
        let user = AuditUser {
            user: format!("share:{}", share.id),
            ..AuditUser::unknown(address, AuditProtocol::Http)
        };
        let study = &share.objects.study;
        let make = async {
            Ok(AuditEntry {
                event_type: Some(AuditEventType::Login),
                outcome: if is_opened { AuditOutcome::Success } else { AuditOutcome::MinorFailure },
                study: Some(study.to_string()),
                patient: self.patient_of(tenant, study).await?,
                detail: Some(if is_opened { "link opened" } else { "wrong code" }.to_owned()),
                ..AuditEntry::of(AuditEvent::UserAuthentication, AuditAction::E, user.clone())
            })
        };
        let group: Group = (&user.user, &user.address, "link", if is_opened { "opened" } else { "wrong" });
        unless_full(self.audit.record_once(tenant.as_str(), &group, self.audit.group_period(), make).await)
    }

    /// Records in the server's log that a caller was not let in, of whom no tenant is known.
    pub async fn audit_unknown_caller(&self, user: AuditUser, reason: &str) -> Result<(), Error> {
        let group: Group = (&user.user, &user.address, "alert", reason);
        let make = async {
            let Some(suppressed) = self.audit.take_alert() else { return Ok(None) };
            let others = match suppressed {
                0 => String::new(),
                count => format!("; {count} alerts before this one were too many to be recorded"),
            };
            Ok(Some(AuditEntry {
                event_type: Some(AuditEventType::NodeAuthentication),
                outcome: AuditOutcome::MinorFailure,
                detail: Some(format!("{reason}{others}")),
                ..AuditEntry::of(AuditEvent::SecurityAlert, AuditAction::E, user.clone())
            }))
        };
        self.audit.record_once_if(SERVER_LOG, &group, self.audit.group_period(), make).await
    }

    /// Records the first use of a token by its subject at an address.
    pub async fn audit_sign_in(&self, caller: &Caller) -> Result<(), Error> {
        let make = async {
            let user = caller.audit_user();
            let entry = AuditEntry::of(AuditEvent::UserAuthentication, AuditAction::E, user);
            Ok(AuditEntry { event_type: Some(AuditEventType::Login), ..entry })
        };
        let group: Group = (&caller.subject, &caller.address, "login", "");
        self.audit.record_once(caller.tenant.as_str(), &group, SESSION, make).await
    }

    /// Records that the log of the caller's tenant is about to be read.
    pub async fn audit_log_used(&self, caller: &Caller, query: &str) -> Result<(), Error> {
        let entry = AuditEntry {
            query: Some(query.to_owned()),
            ..AuditEntry::of(AuditEvent::AuditLogUsed, AuditAction::R, caller.audit_user())
        };
        self.record(caller, entry).await
    }

    /// Records in the server's log that it starts or stops.
    pub async fn audit_activity(&self, event_type: AuditEventType, detail: &str) -> Result<(), Error> {
        let user = AuditUser { user: detail.to_owned(), ..AuditUser::unknown("", AuditProtocol::Server) };
        let entry = AuditEntry {
            event_type: Some(event_type),
            ..AuditEntry::of(AuditEvent::ApplicationActivity, AuditAction::E, user)
        };
        Ok(self.audit.record(SERVER_LOG, entry).await?)
    }

    /// Deletes records that are older than `audit.retention_days`. Returns their number.
    pub async fn sweep_audit(&self) -> Result<u64, Error> {
        Ok(self.audit.sweep().await?)
    }

    async fn record(&self, caller: &Caller, entry: AuditEntry) -> Result<(), Error> {
        let is_reading = matches!(entry.action, AuditAction::R | AuditAction::E);
        let recorded = self.audit.record(caller.tenant.as_str(), entry).await.map_err(Error::from);
        if is_reading { unless_full(recorded) } else { recorded }
    }

    /// Records events that only read, as one group.
    async fn record_once(
        &self,
        caller: &Caller,
        kind: &'static str,
        object: &str,
        make: impl Future<Output = Result<AuditEntry, Error>>,
    ) -> Result<(), Error> {
        unless_full(self.record_group(caller, kind, object, make).await)
    }

    /// Records events as one group.
    async fn record_group(
        &self,
        caller: &Caller,
        kind: &'static str,
        object: &str,
        make: impl Future<Output = Result<AuditEntry, Error>>,
    ) -> Result<(), Error> {
        let group: Group = (&caller.subject, &caller.address, kind, object);
        let period = self.audit.group_period();
        self.audit.record_once(caller.tenant.as_str(), &group, period, make).await
    }

    /// The patient ID of a study; `None` if the study is not there, or has none.
    async fn patient_of(&self, tenant: &Tenant, study: &StudyUid) -> Result<Option<String>, Error> {
        let record = self.index.study(tenant.as_str(), study).await?;
        let id = record.as_ref().and_then(|record| record.attributes.get(&tags::PATIENT_ID));
        let id = id.and_then(Attribute::first_text).map(str::trim).filter(|id| !id.is_empty());
        Ok(id.map(str::to_owned))
    }
}

/// Lets a reading go on though the disk has no room for its record, of which the server's log has a warning:
/// a full disk must not keep a clinic from its images.
fn unless_full(recorded: Result<(), Error>) -> Result<(), Error> {
    match recorded {
        Err(Error::Audit(error)) if error.is_no_space() => Ok(()),
        recorded => recorded,
    }
}

/// The name of this server in records: its AE title, and the name of the machine.
pub(in crate::archive) fn source(config: &Config) -> String {
    let machine = std::fs::read_to_string(Path::new("/proc/sys/kernel/hostname")).unwrap_or_default();
    match machine.trim() {
        "" => config.dimse.ae_title.clone(),
        machine => format!("{}@{machine}", config.dimse.ae_title),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{audit, table};

    #[test]
    fn only_a_full_disk_lets_a_reading_go_on_without_its_record() {
        let outcome = |cause: table::Error| unless_full(Err(audit::Error::Write(Some(cause.into())).into()));
        assert!(outcome(table::Error::NoSpace).is_ok());
        assert!(outcome(table::Error::WriterEnded).is_err());
        assert!(unless_full(Err(audit::Error::Write(None).into())).is_err());
    }
}
