//! Failures of the layers below as reasons for which an instance was not stored.

use std::io;

use crate::archive;
use crate::archive::ingest::Refusal;
use crate::blobs;
use crate::dicom::failure::Failure;
use crate::index;

impl From<Failure> for Refusal {
    fn from(failure: Failure) -> Self {
        match failure {
            Failure::NonPatientObject => Self::NonPatientObject,
            failure => Self::Unreadable(failure),
        }
    }
}

impl From<archive::Error> for Refusal {
    fn from(error: archive::Error) -> Self {
        match error {
            archive::Error::Blobs(error) => error.into(),
            archive::Error::Index(error) => error.into(),
            error => Self::Failed(error.into()),
        }
    }
}

impl From<blobs::Error> for Refusal {
    fn from(error: blobs::Error) -> Self {
        match error {
            blobs::Error::NoSpace { .. } => Self::NoSpace,
            error => Self::Failed(error.into()),
        }
    }
}

impl From<io::Error> for Refusal {
    fn from(error: io::Error) -> Self {
        Self::Failed(anyhow::Error::new(error).context("cannot read what was staged"))
    }
}

impl From<index::Error> for Refusal {
    fn from(error: index::Error) -> Self {
        if error.is_no_space() { Self::NoSpace } else { Self::Failed(error.into()) }
    }
}
