//! Giving back: an index row and one ranged read.

use std::ops::Range;

use futures_util::stream::BoxStream;

use crate::archive::access::Caller;
use crate::archive::{Archive, Error};
use crate::blobs::ByteStream;
use crate::dicom::instance::BulkValue;
use crate::dicom::uid::{InstanceUid, SeriesUid, StudyUid};
use crate::index::records::{InstanceRecord, SeriesRecord, StudyRecord};

/// What a retrieval is of.
#[derive(Debug, Clone)]
pub struct Scope {
    /// The study.
    pub study: StudyUid,
    /// Only this series.
    pub series: Option<SeriesUid>,
    /// Only this instance.
    pub instance: Option<InstanceUid>,
}

impl Archive {
    /// A study's record.
    pub async fn study(&self, caller: &Caller, study: &StudyUid) -> Result<StudyRecord, Error> {
        let _ = (caller, study);
        unimplemented!()
    }

    /// A series' record.
    pub async fn series(
        &self,
        caller: &Caller,
        study: &StudyUid,
        series: &SeriesUid,
    ) -> Result<SeriesRecord, Error> {
        let _ = (caller, study, series);
        unimplemented!()
    }

    /// An instance's record.
    pub async fn instance(
        &self,
        caller: &Caller,
        study: &StudyUid,
        series: &SeriesUid,
        instance: &InstanceUid,
    ) -> Result<InstanceRecord, Error> {
        let _ = (caller, study, series, instance);
        unimplemented!()
    }

    /// The records of all instances in a scope, by series and instance UID, some hundred at a time; at least one.
    ///
    /// # Errors
    /// [`Error::NotFound`] at once, not in the stream.
    pub async fn instances(
        &self,
        caller: &Caller,
        scope: &Scope,
    ) -> Result<BoxStream<'static, Result<Vec<InstanceRecord>, Error>>, Error> {
        let _ = (caller, scope);
        unimplemented!()
    }

    /// A validator of everything in a scope: it changes whenever anything in it does (RFC 9110 §8.8.3). Opaque,
    /// without quotation marks.
    pub async fn version(&self, caller: &Caller, scope: &Scope) -> Result<String, Error> {
        let _ = (caller, scope);
        unimplemented!()
    }

    /// Bytes of a stored object as it was sent.
    pub async fn read(
        &self,
        caller: &Caller,
        record: &InstanceRecord,
        range: Range<u64>,
    ) -> Result<ByteStream, Error> {
        let _ = (caller, record, range);
        unimplemented!()
    }

    /// The stored frame `number` (from 1): its byte ranges in the object, one for native, one a fragment else.
    ///
    /// # Errors
    /// [`Error::NotFound`] if there is no such frame.
    pub async fn frame(
        &self,
        caller: &Caller,
        record: &InstanceRecord,
        number: u32,
    ) -> Result<Vec<Range<u64>>, Error> {
        let _ = (caller, record, number);
        unimplemented!()
    }

    /// A bulk value by its path (see [`BulkValue::path`]).
    pub async fn bulk_value(
        &self,
        caller: &Caller,
        record: &InstanceRecord,
        path: &str,
    ) -> Result<BulkValue, Error> {
        let _ = (caller, record, path);
        unimplemented!()
    }
}
