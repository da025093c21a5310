//! Cut-outs of a volume: some slices of a series, of each a box of pixels, as single-frame images of a series
//! of their own (docs/mini.md). One slice after the other is made, and nothing is cached.

use std::ops::Range;
use std::sync::Arc;

use bytes::Bytes;
use futures_util::TryStreamExt;
use futures_util::stream::{self, BoxStream, StreamExt};
use sha2::{Digest, Sha256};

use crate::archive::access::Caller;
use crate::archive::derived::decoding::frame_for_work;
use crate::archive::derived::mini::volume::VolumeSlice;
use crate::archive::derived::preview::arrange::Order;
use crate::archive::derived::preview::geometry::Geometry;
use crate::archive::permits::cores;
use crate::archive::read::collect;
use crate::archive::read::zip_download::ZipStream;
use crate::archive::read::zip_of_files::zip_of;
use crate::archive::{Archive, Error, run_blocking};
use crate::dicom::codestream;
use crate::dicom::transfer_syntax;
use crate::dicom::uid::{InstanceUid, SeriesUid, StudyUid};
use crate::index::records::InstanceRecord;
use crate::pixel;
use crate::pixel::block_mean::BlockMean;
pub use crate::pixel::block_mean::PixelBox;

mod attributes;
mod file;
mod volume;

/// The revision of what is made: another one gives other UIDs.
pub const REVISION: u32 = 1;
/// Bytes of memory for the attributes of a slice.
const ATTRIBUTES_BYTES: usize = 64 << 10;
/// Bytes of memory for a pixel while blocks are averaged: a sum, a count, the result and its bytes.
const BYTES_OF_PIXEL: usize = 20;
/// The bytes of a frame that tell its compression.
const FRAME_HEAD_BYTES: u64 = 64 << 10;

/// The part of a volume that is requested.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CutOutRequest {
    /// The slices, from 0 in the order of the fast stream; all if none are named.
    pub slices: Option<Range<u32>>,
    /// The box of pixels of each slice; all of it if none is named.
    pub area: Option<PixelBox>,
    /// The slices, rows and columns that become one: 1, 2 or 4.
    pub binning: u32,
}

/// The reason why there is no such cut-out.
#[derive(Debug, thiserror::Error)]
pub enum CutOutError {
    /// An error of the archive.
    #[error(transparent)]
    Archive(#[from] Error),
    /// A parameter does not suit the series.
    #[error("{name} {reason}")]
    Parameter {
        /// The name of the parameter.
        name: &'static str,
        /// The reason.
        reason: String,
    },
    /// The slices are no volume of grey images; the text says why.
    #[error("the series cannot be cut: {0}")]
    NoVolume(String),
}

/// A cut-out: the plan of its slices.
pub struct CutOut {
    study: StudyUid,
    source_series: SeriesUid,
    /// Series Instance UID of the cut-out, the same for the same request to the same sources.
    pub series: SeriesUid,
    /// The slices of the source that become one.
    blocks: Vec<Vec<VolumeSlice>>,
    area: PixelBox,
    binning: u32,
    /// The distance between the slices of the source that were cut out, in mm, if it is the same for all.
    distance: Option<f64>,
    description: String,
}

/// The instances of a cut-out as files, in order, each under its SOP Instance UID.
pub type FileStream = BoxStream<'static, Result<(InstanceUid, Bytes), Error>>;

/// Plans a cut-out of a series. Reads the records of the series, and no pixels.
///
/// # Errors
/// See [`CutOutError`]; [`Error::NotFound`] if there is no such series for the caller.
pub async fn plan(
    archive: &Archive,
    caller: &Caller,
    (study, series): (&StudyUid, &SeriesUid),
    request: &CutOutRequest,
) -> Result<CutOut, CutOutError> {
    let (mut slices, order) = volume::slices(archive, caller, study, series).await?;
    if slices.is_empty() {
        return Err(CutOutError::NoVolume("it has no images".into()));
    }
    if order != Order::Space {
        let reason = "its images do not all have a position in the patient, in parallel planes";
        return Err(CutOutError::NoVolume(reason.into()));
    }
    let count = slices.len() as u32;
    let range = request.slices.clone().unwrap_or(0..count);
    if range.is_empty() || range.end > count {
        let reason = format!("is not within the {count} slices of the series, 0-{}", count - 1);
        return Err(CutOutError::Parameter { name: "slices", reason });
    }
    let side = request.binning;
    if range.len() < side as usize {
        let reason = format!("is {side}, and {} slices are requested", range.len());
        return Err(CutOutError::Parameter { name: "binning", reason });
    }
    slices.truncate(range.end as usize);
    let slices = slices.split_off(range.start as usize);
    let distance = volume::distance(&slices, side).map_err(CutOutError::NoVolume)?;
    let layout = &slices[0].source.layout;
    let whole = PixelBox { x: 0, y: 0, width: layout.columns, height: layout.rows };
    let area = request.area.unwrap_or(whole);
    if !area.is_within(layout.rows, layout.columns) {
        let PixelBox { width, height, .. } = whole;
        let reason = format!("is empty or not within the {width} columns and {height} rows of a slice");
        return Err(CutOutError::Parameter { name: "box", reason });
    }
    let area = area.in_blocks(side);
    if !area.is_within(layout.rows, layout.columns) {
        let reason = format!("is {side}, and the box has fewer columns or rows");
        return Err(CutOutError::Parameter { name: "binning", reason });
    }
    Ok(CutOut::new((study, series), &slices, range.start, area, side, distance))
}

impl CutOut {
    fn new(
        (study, source_series): (&StudyUid, &SeriesUid),
        slices: &[VolumeSlice],
        first: u32,
        area: PixelBox,
        binning: u32,
        distance: Option<f64>,
    ) -> Self {
        let blocks: Vec<Vec<VolumeSlice>> =
            slices.chunks_exact(binning as usize).map(<[VolumeSlice]>::to_vec).collect();
        let last = first as usize + blocks.len() * binning as usize - 1;
        let PixelBox { x, y, width, height } = area;
        let mut description =
            format!("Slices {first} to {last} of series {source_series}, pixels {x},{y},{width},{height}");
        if binning > 1 {
            description += &format!(", means of {binning} x {binning} x {binning}");
        }
        let mut hash = Sha256::new();
        hash.update(format!("cut-out {REVISION} {study} {description}"));
        for VolumeSlice { source, frame, .. } in blocks.iter().flatten() {
            hash.update(format!(" {} {} {frame}", source.instance, source.digest));
        }
        let series = SeriesUid::of_hash(beginning(hash));
        let (study, source_series) = (study.clone(), source_series.clone());
        Self { study, source_series, series, blocks, area, binning, distance, description }
    }

    /// SOP Instance UID of a slice (from 0).
    fn instance(&self, index: usize) -> InstanceUid {
        InstanceUid::of_hash(beginning(Sha256::new().chain_update(format!("{} {index}", self.series))))
    }

    /// The URL of an instance of the cut-out, below that of the service.
    pub fn path_of(&self, instance: &InstanceUid) -> String {
        format!("/studies/{}/series/{}/instances/{instance}", self.study, self.series)
    }

    /// The instances, made while they are read. The first one is made before this returns.
    ///
    /// # Errors
    /// The error of the first slice; in the stream, that of any other, which ends the stream.
    pub async fn files(
        self: &Arc<Self>,
        archive: &Arc<Archive>,
        caller: &Caller,
    ) -> Result<FileStream, Error> {
        let (cut_out, archive, caller) = (self.clone(), archive.clone(), caller.clone());
        let maker = Arc::new(CutOutMaker { cut_out, archive, caller });
        let bytes = self.memory_bytes();
        let memory = maker.archive.response_memory_in_time(&maker.caller, bytes).await?;
        let first = memory.fill(maker.clone().file(0)).await?;
        // Memory is taken in the order in which the slices are sent, so that no slice waits for a later one.
        let for_memory = maker.clone();
        let rest = stream::iter(1..self.blocks.len()).then(move |index| {
            let maker = for_memory.clone();
            async move { (index, maker.archive.response_memory(&maker.caller, bytes).await) }
        });
        let rest = rest.map(move |(index, memory)| {
            let (instance, file) = (maker.cut_out.instance(index), memory.fill(maker.clone().file(index)));
            async move { Ok((instance, file.await?)) }
        });
        Ok(stream::iter([Ok((self.instance(0), first))]).chain(rest.buffered(cores())).boxed())
    }

    /// The instances as a zip file, made while it is read. The first one is made before this returns.
    ///
    /// # Errors
    /// As [`Self::files`].
    pub async fn zip(self: &Arc<Self>, archive: &Arc<Archive>, caller: &Caller) -> Result<ZipStream, Error> {
        let (files, folder) = (self.files(archive, caller).await?, format!("{}/{}", self.study, self.series));
        let named = files.map_ok(move |(instance, bytes)| (format!("{folder}/{instance}.dcm"), bytes));
        Ok(zip_of(named.boxed()))
    }

    /// The memory that one slice takes while it is made.
    fn memory_bytes(&self) -> usize {
        let side = self.binning as usize;
        let blocks = (self.area.width as usize / side) * (self.area.height as usize / side);
        blocks * BYTES_OF_PIXEL + ATTRIBUTES_BYTES
    }

    /// The geometry of a slice: the centre of its first pixel is in the middle of the voxels that became it.
    fn geometry(&self, block: &[VolumeSlice]) -> Geometry {
        let mut geometry = block[0].geometry.clone();
        if let (Some(position), true) = (&mut geometry.position, block.len() > 1) {
            for (axis, place) in position.iter_mut().enumerate() {
                let all = block.iter().filter_map(|slice| Some(slice.geometry.position?[axis]));
                *place = all.sum::<f64>() / block.len() as f64;
            }
        }
        geometry.beginning_at(self.area.x.into(), self.area.y.into()).binned(self.binning)
    }
}

/// Makes the instances of a cut-out for a caller.
struct CutOutMaker {
    cut_out: Arc<CutOut>,
    archive: Arc<Archive>,
    caller: Caller,
}

impl CutOutMaker {
    /// Makes the file of a slice (from 0). Holds one frame at a time, and the sums of the frames before.
    async fn file(self: Arc<Self>, index: usize) -> Result<Bytes, Error> {
        let Self { cut_out, archive, caller } = &*self;
        let place = (&cut_out.study, &cut_out.source_series);
        let (mut first, mut mean, mut is_lossy) = (None, None, false);
        for VolumeSlice { source, frame, .. } in &cut_out.blocks[index] {
            let record = source.record(archive, caller, place).await?;
            let attributes = source.attributes(archive, caller, &record).await?;
            is_lossy = is_lossy || attributes.is_lossy() || self.is_lossy(&record, *frame).await?;
            let new = || BlockMean::new(cut_out.area, cut_out.binning, attributes.padding());
            let mut sum = mean.take().unwrap_or_else(new);
            let (permit, frame) = frame_for_work(archive, caller, &record, *frame).await?;
            let add = move || {
                sum.add(&frame.decode()?.image)?;
                Ok::<_, pixel::Error>(sum)
            };
            mean = Some(run_blocking(Some(permit), add).await??);
            first.get_or_insert(attributes);
        }
        let (Some(attributes), Some(mean)) = (first, mean) else {
            return Err(Error::Internal("a slice of a cut-out is made of no frames".into()));
        };
        let (permit, cut_out) = (archive.permits.codec(caller).await, cut_out.clone());
        run_blocking(Some(permit), move || cut_out.write(index, &attributes, mean, is_lossy)).await?
    }

    /// Whether the codestream of a frame says that the frame was compressed with loss.
    async fn is_lossy(&self, record: &InstanceRecord, frame: u32) -> Result<bool, Error> {
        if !transfer_syntax::may_be_lossy(&record.transfer_syntax) {
            return Ok(false);
        }
        let bytes = self.archive.frame(record, frame)?.bytes.min(FRAME_HEAD_BYTES);
        let head = collect(self.archive.read_frame(&self.caller, record, frame, 0..bytes).await?).await?;
        Ok(codestream::recognise(&head).is_some_and(|found| found.is_lossy))
    }
}

fn beginning(hash: Sha256) -> [u8; 16] {
    hash.finalize().first_chunk().copied().unwrap_or_default()
}
