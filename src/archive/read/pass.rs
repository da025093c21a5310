//! Reading ranges of an object one after the other. A value of a deflated object is reached only by inflating
//! all bytes before the value, so that ranges which ascend share one pass over the object.

use std::ops::Range;
use std::sync::Arc;

use bytes::Bytes;
use futures_util::{StreamExt, TryStreamExt, stream};
use tokio::sync::{Mutex, OwnedMutexGuard};

use crate::archive::access::Caller;
use crate::archive::read::deflated::MAX_INFLATED_BYTES;
use crate::archive::{Archive, Error};
use crate::blobs;
use crate::blobs::ByteStream;
use crate::dicom::transfer_syntax;
use crate::index::records::InstanceRecord;

/// A pass over an object, if the object is deflated. Each range is read to its end before the next one is
/// begun; a range before the last one begins another pass.
#[derive(Clone, Default)]
pub struct InflatePass(Arc<Mutex<Option<InflatedBytes>>>);

/// The inflated bytes of an object from a position on.
struct InflatedBytes {
    bytes: ByteStream,
    /// Bytes that were inflated and not read yet.
    rest: Bytes,
    /// The position of the next byte.
    position: u64,
}

/// The order in which frames or values are read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ReadOrder {
    /// One after the other, on an [`InflatePass`].
    InPasses,
    /// Each by itself.
    Apart,
}

impl Archive {
    /// Reads a range as [`Archive::read`] does, as part of a pass over the object.
    ///
    /// # Errors
    /// As [`Archive::read`].
    pub async fn read_on(
        &self,
        caller: &Caller,
        record: &InstanceRecord,
        range: Range<u64>,
        pass: &InflatePass,
    ) -> Result<ByteStream, Error> {
        let is_deflated = transfer_syntax::is_deflated(&record.transfer_syntax);
        // A range that is read while another one is being read gets a pass of its own.
        let pass = is_deflated.then(|| pass.0.clone().try_lock_owned().ok()).flatten();
        let Some(mut pass) = pass else { return self.read(caller, record, range).await };
        if pass.as_ref().is_none_or(|bytes| bytes.position > range.start) {
            let bytes = self.read(caller, record, range.start..u64::MAX).await?;
            *pass = Some(InflatedBytes { bytes, rest: Bytes::new(), position: range.start });
        }
        let parts = stream::try_unfold((pass, range), |(mut pass, range)| async move {
            Ok(next_of(&mut pass, &range).await?.map(|bytes| (bytes, (pass, range))))
        });
        Ok(parts.boxed())
    }

    /// Checks that few enough bytes are inflated to read frames, by their numbers (from 1), as
    /// [`Archive::check_inflation`] does.
    ///
    /// # Errors
    /// [`Error::TooLarge`] if they are too many.
    pub fn check_frames(
        &self,
        record: &InstanceRecord,
        numbers: impl Iterator<Item = u32>,
        order: ReadOrder,
    ) -> Result<(), Error> {
        let spans = numbers.filter_map(|number| record.layout.frames.span(number.checked_sub(1)?));
        self.check_inflation(record, spans.map(|span| span.range), order)
    }

    /// Checks that few enough bytes are inflated to read ranges of an object, if the object is deflated.
    ///
    /// # Errors
    /// [`Error::TooLarge`] if they are too many.
    pub fn check_inflation(
        &self,
        record: &InstanceRecord,
        ranges: impl Iterator<Item = Range<u64>>,
        order: ReadOrder,
    ) -> Result<(), Error> {
        if !transfer_syntax::is_deflated(&record.transfer_syntax) {
            return Ok(());
        }
        let bytes = bytes_to_inflate(ranges, order);
        if bytes <= MAX_INFLATED_BYTES {
            return Ok(());
        }
        let instance = &record.instance;
        Err(Error::TooLarge(format!(
            "instance {instance} is deflated, and {bytes} bytes would be inflated, more than \
             {MAX_INFLATED_BYTES}: request less at a time, in ascending order"
        )))
    }
}

/// The next bytes of a range; `None` at its end.
async fn next_of(
    pass: &mut OwnedMutexGuard<Option<InflatedBytes>>,
    range: &Range<u64>,
) -> Result<Option<Bytes>, blobs::Error> {
    let Some(InflatedBytes { bytes, rest, position }) = pass.as_mut() else { return Ok(None) };
    while *position < range.end {
        if rest.is_empty() {
            match bytes.try_next().await? {
                Some(next) => *rest = next,
                None => return Ok(None),
            }
        }
        let until = if *position < range.start { range.start } else { range.end };
        let is_wanted = *position >= range.start;
        let part = rest.split_to((until - *position).min(rest.len() as u64) as usize);
        *position += part.len() as u64;
        if is_wanted && !part.is_empty() {
            return Ok(Some(part));
        }
    }
    Ok(None)
}

/// The bytes that are inflated to read some ranges.
fn bytes_to_inflate(ranges: impl Iterator<Item = Range<u64>>, order: ReadOrder) -> u64 {
    let (mut total, mut position) = (0_u64, u64::MAX);
    for range in ranges {
        let goes_on = order == ReadOrder::InPasses && position <= range.start;
        total = total.saturating_add(if goes_on { range.end - position } else { range.end });
        position = range.end;
    }
    total
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_range_before_the_last_one_begins_another_pass() {
        for (ranges, in_passes, apart) in [
            (vec![10..20, 20..30, 50..60], 60, 110),
            (vec![50..60, 50..60, 10..20], 140, 140),
            (vec![], 0, 0),
        ] {
            let bytes = |order| bytes_to_inflate(ranges.iter().cloned(), order);
            assert_eq!((bytes(ReadOrder::InPasses), bytes(ReadOrder::Apart)), (in_passes, apart));
        }
        assert_eq!(bytes_to_inflate([0..u64::MAX, 0..9].into_iter(), ReadOrder::InPasses), u64::MAX);
    }
}
