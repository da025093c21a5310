//! Taking in: STOW-RS, C-STORE and import all come through here, one instance at a time, streamed.

use bytes::Bytes;

use crate::archive::Archive;
use crate::archive::access::Caller;
use crate::dicom::failure::{Failure, Warning};
use crate::dicom::uid::{InstanceUid, SeriesUid, StudyUid};

/// An instance that is coming in. Dropping it leaves nothing behind.
pub struct Upload {}

/// How taking in one instance ended.
#[derive(Debug)]
pub struct Outcome {
    /// What the instance says that it is, if that much could be read.
    pub identity: Option<Identity>,
    /// Stored, or why not.
    pub result: Result<Stored, Refusal>,
}

/// What an instance is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Identity {
    /// Study Instance UID.
    pub study: StudyUid,
    /// Series Instance UID.
    pub series: SeriesUid,
    /// SOP Instance UID.
    pub instance: InstanceUid,
    /// SOP Class UID.
    pub sop_class: String,
}

/// An instance is durably stored.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Stored {
    /// Whether these very bytes were there before.
    pub was_known: bool,
    /// Whether other bytes under the same UID gave way.
    pub has_replaced: bool,
    /// What was wrong with it and was let pass.
    pub warnings: Vec<Warning>,
}

/// Why an instance was not stored.
#[derive(Debug, thiserror::Error)]
pub enum Refusal {
    /// It cannot be understood.
    #[error(transparent)]
    Unreadable(#[from] Failure),
    /// It is larger than `ingest.max_instance_bytes`.
    #[error("the instance is larger than {limit} bytes (ingest.max_instance_bytes)")]
    TooLarge {
        /// The limit in force.
        limit: u64,
    },
    /// It is of another study than the request names.
    #[error("the instance is of study {found}, not of the study in the URL")]
    OtherStudy {
        /// Its study.
        found: StudyUid,
    },
    /// Its SOP class is not among those accepted.
    #[error("SOP class {0} is not accepted (dimse.accept_sop_classes)")]
    SopClass(String),
    /// Other bytes are stored under its UID, and the policy is to keep those.
    #[error("other bytes are stored under this SOP Instance UID (ingest.duplicates)")]
    Different,
    /// Its UID is stored in another study or series.
    #[error("this SOP Instance UID is stored in another study or series")]
    Elsewhere,
    /// There is no room left.
    #[error("no space left to store the instance")]
    NoSpace,
    /// The archive failed; sending it again may succeed.
    #[error("the instance could not be stored")]
    Failed(#[source] anyhow::Error),
}

impl Archive {
    /// Begins to take in an instance, as soon as one of `ingest.max_uploads` places is free.
    ///
    /// `study` is the study that it must be of, if the request named one.
    pub async fn receive(&self, caller: &Caller, study: Option<StudyUid>) -> Upload {
        let _ = (caller, study);
        unimplemented!()
    }
}

impl Upload {
    /// Takes the next bytes of the object (a PS3.10 file or a bare data set), and waits while those before are
    /// still being worked on. After a refusal, the rest is swallowed: [`Upload::finish`] tells.
    pub async fn write(&mut self, bytes: Bytes) {
        let _ = bytes;
        unimplemented!()
    }

    /// Ends the object; when this returns `Stored`, it is durable and can be found. The caller may poll several
    /// of these together: they share their flushes.
    pub async fn finish(self) -> Outcome {
        unimplemented!()
    }
}
