//! Responses of many instances, which go on without those that cannot be read (docs/decisions/0102).

use axum::http::header::{CACHE_CONTROL, VARY, WARNING};
use axum::http::response::Builder;
use axum::http::{Response, StatusCode};
use bytes::Bytes;
use futures_util::future::ready;
use futures_util::stream::{self, BoxStream, StreamExt, TryStreamExt};
use tracing::error;

use crate::archive::access::Caller;
use crate::archive::read::whole::{OmissionPolicy, is_logged};
use crate::archive::records::InstanceRecord;
use crate::archive::{Archive, Error as ArchiveError};
use crate::dicom::uid::InstanceUid;
use crate::http::response::multipart;
use crate::http::response::ranged::describe;
use crate::http::warning::warning;
use crate::telemetry;

/// The most instances that a Warning names.
const MAX_NAMED: usize = 10;

pub(super) type PartBytes = BoxStream<'static, Result<Bytes, ArchiveError>>;

/// A part of a response, which is open.
pub(super) struct OpenPart {
    pub(super) essence: &'static str,
    pub(super) transfer_syntax: String,
    pub(super) location: String,
    pub(super) bytes: PartBytes,
}

/// An instance that a response leaves out, and the reason.
pub(in crate::http) struct Omission {
    pub(super) instance: InstanceUid,
    pub(super) error: ArchiveError,
}

/// The parts of a response, each opened or left out. An error ends the response.
pub(super) type PartsOrOmissions<T> = BoxStream<'static, Result<Result<T, Omission>, ArchiveError>>;

/// Looks for the objects of the first instances of a response. Returns the records of those that can be
/// opened, as far as can be known at little cost, and the others.
pub(super) async fn look_ahead(
    archive: &Archive,
    caller: &Caller,
    mut page: Vec<InstanceRecord>,
) -> (Vec<InstanceRecord>, Vec<Omission>) {
    let lost = archive.lost_instances(caller, &page).await;
    if !lost.is_empty() {
        page.retain(|record| lost.iter().all(|(instance, _)| *instance != record.instance));
    }
    (page, lost.into_iter().map(|(instance, error)| Omission { instance, error }).collect())
}

/// The parts of a response that can be given.
pub(super) struct AvailableParts<T> {
    parts: PartsOrOmissions<T>,
    policy: OmissionPolicy,
    /// The number of instances that are left out, and the first of them.
    count: usize,
    named: Vec<InstanceUid>,
    last: Option<InstanceUid>,
    first_error: Option<ArchiveError>,
}

impl<T: Send + 'static> AvailableParts<T> {
    /// The parts of a response. `lost` are instances that are left out and not among the parts.
    ///
    /// # Errors
    /// The first error after which the response cannot go on.
    pub(super) fn new(lost: Vec<Omission>, parts: PartsOrOmissions<T>) -> Result<Self, ArchiveError> {
        let policy = OmissionPolicy::default();
        let mut available =
            Self { parts, policy, count: 0, named: Vec::new(), last: None, first_error: None };
        lost.into_iter().try_for_each(|omission| available.omit(omission))?;
        Ok(available)
    }

    /// The first part that can be given, to be opened before the head of the response. `None` if there are no
    /// parts at all.
    ///
    /// # Errors
    /// The error of the first instance if all are left out.
    pub(super) async fn first(&mut self) -> Result<Option<T>, ArchiveError> {
        let first = self.next().await?;
        match self.first_error.take() {
            Some(error) if first.is_none() => Err(error),
            _ => Ok(first),
        }
    }

    /// The response, whose head says whether instances are missing: PS3.18 Table 10.4.3-1 has 206 for that.
    pub(super) fn begin(&self, etag: &str) -> Builder {
        self.begin_without(etag, None)
    }

    /// The same response, with a Warning about instances that are left out on purpose.
    pub(super) fn begin_without(&self, etag: &str, left_out: Option<String>) -> Builder {
        let lost = (self.count > 0).then(|| omission_warning(self.count, &self.named));
        if lost.is_none() && left_out.is_none() {
            return describe(etag);
        }
        let response = incomplete().status(StatusCode::PARTIAL_CONTENT);
        lost.into_iter().chain(left_out).fold(response, |response, text| response.header(WARNING, text))
    }

    /// The parts after the first one. If instances are left out that the head does not name, an error follows
    /// the last part: the client must not take the response for complete. The next request has a head that
    /// names them.
    pub(super) fn rest(self) -> BoxStream<'static, Result<T, ArchiveError>> {
        let named = self.count;
        let parts = stream::try_unfold(self, move |mut parts| async move {
            match parts.next().await? {
                Some(part) => Ok(Some((part, parts))),
                None if parts.count > named => parts.first_error.take().map_or(Ok(None), Err),
                None => Ok(None),
            }
        });
        parts.inspect_err(log_end).boxed()
    }

    async fn next(&mut self) -> Result<Option<T>, ArchiveError> {
        while let Some(part) = self.parts.try_next().await? {
            match part {
                Ok(part) => {
                    self.policy.given();
                    return Ok(Some(part));
                }
                Err(omission) => self.omit(omission)?,
            }
        }
        Ok(None)
    }

    fn omit(&mut self, Omission { instance, error }: Omission) -> Result<(), ArchiveError> {
        // Several parts of an instance fail for one reason.
        let is_known = self.last.as_ref() == Some(&instance);
        if !self.policy.goes_on_after(&error) {
            return Err(error);
        }
        // An instance that was deleted meanwhile is not missing.
        if !is_known && !matches!(error, ArchiveError::NotFound(_)) {
            if !is_logged(&error) {
                let error = telemetry::chain(&error);
                error!(error, "a response leaves out instance {instance}");
            }
            self.count += 1;
            if self.named.len() < MAX_NAMED {
                self.named.push(instance.clone());
            }
        }
        self.last = Some(instance);
        self.first_error.get_or_insert(error);
        Ok(())
    }
}

/// An incomplete response. It has no ETag and is not cached: objects may be restored from a back-up, which
/// changes no version.
pub(super) fn incomplete() -> Builder {
    Response::builder().header(VARY, "Accept, Accept-Encoding").header(CACHE_CONTROL, "no-store")
}

/// The Warning of a response without `count` instances, of which the first are given.
pub(super) fn omission_warning(count: usize, first: &[InstanceUid]) -> String {
    let mut names: Vec<&str> = first.iter().take(MAX_NAMED).map(InstanceUid::as_str).collect();
    if count > names.len() {
        names.push("and others");
    }
    let names = names.join(", ");
    warning(&format!("stored instances cannot be read and are missing, {count} in number: {names}"))
}

/// Writes parts as one body.
pub(super) fn written(
    first: OpenPart,
    rest: BoxStream<'static, Result<OpenPart, ArchiveError>>,
    boundary: String,
) -> PartBytes {
    let tail = Bytes::from(multipart::tail(&boundary));
    let parts = stream::iter([Ok(first)]).chain(rest).enumerate().map(move |(index, part)| {
        let OpenPart { essence, transfer_syntax, location, bytes } = part?;
        let head =
            multipart::located(&boundary, index == 0, essence, Some(transfer_syntax.as_str()), &location);
        let bytes = bytes.inspect_err(log_end);
        Ok::<_, ArchiveError>(stream::once(ready(Ok(Bytes::from(head)))).chain(bytes))
    });
    parts.try_flatten().chain(stream::once(ready(Ok(tail)))).boxed()
}

/// Logs the error that ends a body. A client cannot see more than that the body is incomplete.
pub(super) fn log_end(error: &ArchiveError) {
    let error = telemetry::chain(error);
    error!(error, "a response ends early");
}
