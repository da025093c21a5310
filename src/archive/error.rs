//! The errors of the archive, each with one meaning. The protocol layers turn them into statuses.

use crate::audit;
use crate::blobs;
use crate::index;

/// Why the archive cannot do what it is to do.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// There is no such study, series, instance, frame or bulk value for this caller.
    #[error("there is no {0}")]
    NotFound(String),
    /// The instance cannot be given in this form: the form is not supported, or the instance is not of the
    /// kind that has it.
    #[error("{0}")]
    Unsupported(String),
    /// The instance cannot be de-identified without a person who looks at it, and is not given otherwise.
    #[error("the instance cannot be de-identified: {0}")]
    NotDeidentified(String),
    /// A frame, image, animation or value is larger than a limit allows.
    #[error("{0}")]
    TooLarge(String),
    /// There are more instances than one response may hold.
    #[error("{0}")]
    TooMany(String),
    /// The derived object is still to be made; a retry may find it.
    #[error("{0}")]
    NotReady(String),
    /// Other responses use all memory for responses; a retry may find some.
    #[error("the memory for responses is in use (http.max_response_memory_bytes)")]
    Busy,
    /// The stored bytes cannot be decoded.
    #[error("{0}")]
    Damaged(String),
    /// A fault of the program, which was logged where it happened.
    #[error("the server failed: {0}")]
    Internal(String),
    /// The blob store failed.
    #[error(transparent)]
    Blobs(#[from] blobs::Error),
    /// The index failed.
    #[error(transparent)]
    Index(#[from] index::Error),
    /// The audit log cannot be written or read.
    #[error(transparent)]
    Audit(#[from] audit::Error),
}

impl Error {
    /// Whether the error is about the form in which an instance was to be given, so that another form may be
    /// possible. A failure of the server never is.
    pub fn is_about_form(&self) -> bool {
        match self {
            Self::Unsupported(_) | Self::TooLarge(_) | Self::Damaged(_) => true,
            Self::NotFound(_)
            | Self::NotDeidentified(_)
            | Self::TooMany(_)
            | Self::NotReady(_)
            | Self::Busy
            | Self::Internal(_)
            | Self::Blobs(_)
            | Self::Index(_)
            | Self::Audit(_) => false,
        }
    }

    /// Whether a record in the index is damaged: a retry does not help.
    pub fn is_about_record(&self) -> bool {
        matches!(self, Self::Index(index::Error::Record { .. }))
    }

    /// Whether there was no space left to write.
    pub fn is_no_space(&self) -> bool {
        match self {
            Self::Blobs(error) => matches!(error, blobs::Error::NoSpace { .. }),
            Self::Index(error) => error.is_no_space(),
            _ => false,
        }
    }

    /// The same error with a text before its reason, if it is about the form of an instance.
    #[must_use]
    pub(in crate::archive) fn context(self, text: &str) -> Self {
        match self {
            Self::Unsupported(reason) => Self::Unsupported(format!("{text}: {reason}")),
            Self::TooLarge(reason) => Self::TooLarge(format!("{text}: {reason}")),
            Self::Damaged(reason) => Self::Damaged(format!("{text}: {reason}")),
            other => other,
        }
    }
}
