//! Previews from instances taken in to slices given back.

use std::io::Write;
use std::sync::Arc;
use std::task::Poll;

use bytes::Bytes;
use futures_util::TryStreamExt;
use futures_util::stream::BoxStream;

use crate::archive::access::Caller;
use crate::archive::derived::frames::decoded_frame;
use crate::archive::derived::preview::slices::{self, Index, Order};
use crate::archive::derived::preview::{Due, Outcome, due_previews, make_preview, stream};
use crate::archive::{Archive, Error};
use crate::blobs;
use crate::blobs::memory::MemoryBlobs;
use crate::blobs::{Blobs, Bucket, ByteStream, Key, ListedObject, Staged};
use crate::config::Config;
use crate::dicom::build::DataSet;
use crate::dicom::transfer_syntax;
use crate::dicom::uids;
use crate::index::records::PreviewState;
use crate::pixel::{Shape, j2k};

struct Bench {
    archive: Arc<Archive>,
    blobs: Arc<MemoryBlobs>,
    caller: Caller,
}

impl Bench {
    fn new(settings: &[(&str, &str)]) -> Self {
        let mut overrides = vec![("preview".to_owned(), "quiet_seconds".to_owned(), "0".to_owned())];
        overrides
            .extend(settings.iter().map(|(name, text)| ("preview".into(), (*name).into(), (*text).into())));
        let config = Config::load(None, &overrides).unwrap();
        let blobs = Arc::new(MemoryBlobs::new());
        let index = crate::index::Index::in_memory();
        let archive = Archive::new(blobs.clone(), Arc::new(index), &config);
        Self { archive, blobs, caller: Caller::anonymous() }
    }

    async fn store(&self, file: Vec<u8>) {
        let mut upload = self.archive.receive(&self.caller, None).await;
        upload.write(Bytes::from(file)).await;
        upload.finish().await.await.result.unwrap();
    }

    async fn due(&self) -> Vec<Due> {
        due_previews(&self.archive, 10).await.unwrap()
    }

    async fn make_all(&self) -> Vec<Outcome> {
        let mut outcomes = Vec::new();
        for due in self.due().await {
            outcomes.push(make_preview(&self.archive, &due).await.unwrap());
        }
        outcomes
    }

    async fn state(&self, series: &str) -> PreviewState {
        let (study, series) = ("1.2".parse().unwrap(), series.parse().unwrap());
        self.archive.series(&self.caller, &study, &series).await.unwrap().preview
    }

    async fn stream(&self, series: &str, slices: Option<std::ops::Range<u32>>) -> Result<Stream, Error> {
        let (study, series) = ("1.2".parse().unwrap(), series.parse().unwrap());
        let preview = stream::open(&self.archive, &self.caller, &study, &series, slices).await?;
        let chunks = stream::read(&self.archive, &preview, 0..preview.length()).await?;
        let bytes = chunks.try_collect::<Vec<_>>().await?.concat();
        assert_eq!(bytes.len() as u64, preview.length());
        let (header, rest) = bytes.split_at(slices::HEADER_BYTES);
        let (text, codestreams) = rest.split_at(slices::index_bytes(header).unwrap() as usize);
        Ok(Stream { index: serde_json::from_slice(text).unwrap(), codestreams: codestreams.to_vec() })
    }

    async fn number_of_previews(&self) -> usize {
        self.blobs.list(Bucket::Previews, "").try_collect::<Vec<_>>().await.unwrap().len()
    }
}

struct Stream {
    index: Index,
    codestreams: Vec<u8>,
}

impl Stream {
    /// The mean of a slice's decoded samples.
    fn mean(&self, place: usize) -> f64 {
        let slice = &self.index.slices[place];
        let image = &self.index.images[slice.image.unwrap() as usize];
        let codestream = &self.codestreams[slice.offset as usize..][..slice.length as usize];
        let shape = Shape { rows: image.rows, columns: image.columns, samples: image.samples };
        let samples = j2k::decode(codestream, shape, 0).unwrap().samples;
        samples.iter().map(|sample| f64::from(*sample)).sum::<f64>() / samples.len() as f64
    }
}

/// An instance of 64 x 48 pixels whose samples are all about `level`, at `z` mm.
fn slice(series: &str, number: u32, z: f64, level: i16) -> DataSet {
    let pixels: Vec<u8> = (0..64 * 48_i16).flat_map(|place| (level + place % 5 - 2).to_le_bytes()).collect();
    image(series, number)
        .text(0x0020_0032, "DS", &format!("-10\\-20\\{z}"))
        .text(0x0020_0037, "DS", "1\\0\\0\\0\\1\\0")
        .us(0x0028_0002, &[1])
        .text(0x0028_0004, "CS", "MONOCHROME2")
        .us(0x0028_0010, &[48])
        .us(0x0028_0011, &[64])
        .text(0x0028_0030, "DS", "0.5\\0.25")
        .us(0x0028_0100, &[16])
        .us(0x0028_0101, &[16])
        .us(0x0028_0102, &[15])
        .us(0x0028_0103, &[1])
        .text(0x0028_1052, "DS", "-1024")
        .text(0x0028_1053, "DS", "1")
        .element(0x7FE0_0010, "OW", &pixels)
}

fn image(series: &str, number: u32) -> DataSet {
    DataSet::explicit()
        .text(0x0008_0016, "UI", uids::CT_IMAGE_STORAGE)
        .text(0x0008_0018, "UI", &format!("{series}.{number}"))
        .text(0x0020_000D, "UI", "1.2")
        .text(0x0020_000E, "UI", series)
        .text(0x0020_0013, "IS", &number.to_string())
}

fn garbage(series: &str) -> Vec<u8> {
    image(series, 1)
        .us(0x0028_0002, &[1])
        .text(0x0028_0004, "CS", "MONOCHROME2")
        .us(0x0028_0010, &[48])
        .us(0x0028_0011, &[64])
        .us(0x0028_0100, &[16])
        .us(0x0028_0101, &[12])
        .us(0x0028_0102, &[11])
        .us(0x0028_0103, &[0])
        .encapsulated(&[&[], &[0xFF, 0xD8, 1, 2, 3, 4]])
        .file(transfer_syntax::JPEG_LOSSLESS_SV1)
}

/// Twelve slices that were numbered against their order in space, stored in no order at all.
async fn store_twelve(bench: &Bench) {
    for place in [3, 11, 0, 7, 5, 1, 9, 2, 10, 4, 8, 6] {
        let z = 2.5 * f64::from(place);
        bench
            .store(
                slice("1.3", 12 - place, z, 100 * place as i16 - 500)
                    .file(transfer_syntax::EXPLICIT_VR_LITTLE_ENDIAN),
            )
            .await;
    }
}

#[tokio::test]
async fn slices_come_in_the_order_of_space() {
    let bench = Bench::new(&[]);
    store_twelve(&bench).await;
    assert!(matches!(bench.stream("1.3", None).await, Err(Error::NotReady(_))));
    assert_eq!(bench.make_all().await, [Outcome::Made]);
    assert_eq!(bench.due().await, []);

    let stream = bench.stream("1.3", None).await.unwrap();
    assert_eq!((stream.index.order, stream.index.slice_spacing), (Order::Space, Some(2.5)));
    assert_eq!((stream.index.slices.len(), stream.index.images.len()), (12, 1));
    let image = &stream.index.images[0];
    assert_eq!((image.rescale, image.spacing, image.signed), (Some([1.0, -1024.0]), Some([0.5, 0.25]), true));
    for (place, slice) in stream.index.slices.iter().enumerate() {
        let instance = &stream.index.instances[slice.instance as usize];
        assert_eq!(instance.as_str(), format!("1.3.{}", 12 - place));
        assert_eq!(slice.position, Some([-10.0, -20.0, 2.5 * place as f64]));
        assert!((stream.mean(place) - (100.0 * place as f64 - 500.0)).abs() < 2.0, "slice {place}");
    }
}

#[tokio::test]
async fn a_range_of_slices_is_a_stream_of_its_own() {
    let bench = Bench::new(&[]);
    store_twelve(&bench).await;
    bench.make_all().await;
    let part = bench.stream("1.3", Some(4..6)).await.unwrap();
    assert_eq!(part.index.number_of_slices, 12);
    assert_eq!(part.index.slices.iter().map(|slice| slice.number).collect::<Vec<_>>(), [4, 5]);
    assert!((part.mean(1) - 0.0).abs() < 2.0);
    for slices in [12..13, 5..5, 0..13] {
        assert!(matches!(bench.stream("1.3", Some(slices)).await, Err(Error::NotFound(_))));
    }
}

#[tokio::test]
async fn every_range_of_bytes_is_that_of_the_whole() {
    let bench = Bench::new(&[]);
    bench.store(slice("1.3", 1, 0.0, 0).file(transfer_syntax::EXPLICIT_VR_LITTLE_ENDIAN)).await;
    bench.make_all().await;
    let (study, series) = ("1.2".parse().unwrap(), "1.3".parse().unwrap());
    let preview = stream::open(&bench.archive, &bench.caller, &study, &series, None).await.unwrap();
    let read = async |range| {
        let chunks = stream::read(&bench.archive, &preview, range).await.unwrap();
        chunks.try_collect::<Vec<_>>().await.unwrap().concat()
    };
    let whole = read(0..preview.length()).await;
    for range in [0..1, 10..400, 500..501, 0..0, whole.len() - 1..whole.len()] {
        assert_eq!(read(range.start as u64..range.end as u64).await, whole[range.clone()], "{range:?}");
    }
}

#[tokio::test]
async fn what_arrives_later_makes_the_preview_due_again_and_replaces_it() {
    let bench = Bench::new(&[]);
    bench.store(slice("1.3", 1, 0.0, 0).file(transfer_syntax::EXPLICIT_VR_LITTLE_ENDIAN)).await;
    let overtaken = bench.due().await;
    bench.store(slice("1.3", 2, 1.0, 0).file(transfer_syntax::EXPLICIT_VR_LITTLE_ENDIAN)).await;
    assert_eq!(make_preview(&bench.archive, &overtaken[0]).await.unwrap(), Outcome::Stale);
    assert_eq!(bench.number_of_previews().await, 0);
    assert_eq!(bench.make_all().await, [Outcome::Made]);
    bench.store(slice("1.3", 3, 2.0, 0).file(transfer_syntax::EXPLICIT_VR_LITTLE_ENDIAN)).await;
    assert!(matches!(bench.state("1.3").await, PreviewState::Pending { .. }));
    assert_eq!(bench.make_all().await, [Outcome::Made]);
    assert_eq!(bench.number_of_previews().await, 1);
    assert_eq!(bench.stream("1.3", None).await.unwrap().index.slices.len(), 3);
}

#[tokio::test]
async fn a_preview_that_is_dropped_at_any_moment_is_due_or_there() {
    let bench = Bench::new(&[]);
    store_twelve(&bench).await;
    let mut drops = 0;
    while let Some(due) = bench.due().await.pop() {
        assert!(matches!(bench.stream("1.3", None).await, Err(Error::NotReady(_))));
        drops += 1;
        let mut polls = 0;
        let mut making = Box::pin(make_preview(&bench.archive, &due));
        std::future::poll_fn(|context| {
            polls += 1;
            if polls > drops { Poll::Ready(()) } else { making.as_mut().poll(context).map(|_| ()) }
        })
        .await;
    }
    assert!(drops > 12, "it was dropped {drops} times");
    assert_eq!(bench.stream("1.3", None).await.unwrap().index.slices.len(), 12);
    assert_eq!(bench.number_of_previews().await, 1);
}

#[tokio::test]
async fn a_series_that_cannot_be_decoded_fails_with_its_reason_and_no_other() {
    let bench = Bench::new(&[]);
    bench.store(garbage("1.4")).await;
    bench.store(slice("1.3", 1, 0.0, 0).file(transfer_syntax::EXPLICIT_VR_LITTLE_ENDIAN)).await;
    let mut outcomes = bench.make_all().await;
    outcomes.sort_by_key(|outcome| outcome.name());
    assert_eq!(outcomes, [Outcome::Failed, Outcome::Made]);
    let PreviewState::Failed { reason, attempts: 1 } = bench.state("1.4").await else { panic!("not failed") };
    assert!(reason.contains("JPEG"), "{reason}");
    let Err(Error::NotFound(shown)) = bench.stream("1.4", None).await else { panic!("a stream") };
    assert!(shown.contains(&reason));
    assert!(bench.stream("1.3", None).await.is_ok());
}

#[tokio::test]
async fn a_preview_that_gives_way_while_it_is_read_is_asked_for_again() {
    let bench = Bench::new(&[]);
    bench.store(slice("1.3", 1, 0.0, 0).file(transfer_syntax::EXPLICIT_VR_LITTLE_ENDIAN)).await;
    bench.make_all().await;
    let (study, series) = ("1.2".parse().unwrap(), "1.3".parse().unwrap());
    let preview = stream::open(&bench.archive, &bench.caller, &study, &series, None).await.unwrap();
    bench.store(slice("1.3", 2, 1.0, 0).file(transfer_syntax::EXPLICIT_VR_LITTLE_ENDIAN)).await;
    bench.make_all().await;
    let read = stream::read(&bench.archive, &preview, 0..preview.length()).await;
    assert!(matches!(read, Err(Error::NotReady(_))), "{:?}", read.err());
}

#[tokio::test]
async fn a_series_of_too_many_frames_fails_at_once() {
    let bench = Bench::new(&[("max_frames", "2")]);
    let dots = image("1.3", 1)
        .us(0x0028_0002, &[1])
        .text(0x0028_0004, "CS", "MONOCHROME2")
        .text(0x0028_0008, "IS", "2000000000")
        .us(0x0028_0010, &[1])
        .us(0x0028_0011, &[1])
        .us(0x0028_0100, &[8])
        .element(0x7FE0_0010, "OB", &[0; 4]);
    bench.store(dots.file(transfer_syntax::EXPLICIT_VR_LITTLE_ENDIAN)).await;
    assert_eq!(bench.make_all().await, [Outcome::Failed]);
    let PreviewState::Failed { reason, .. } = bench.state("1.3").await else { panic!("not failed") };
    assert_eq!(reason, "there are 4 frames, more than 2 (preview.max_frames)");
}

/// Objects in memory whose reads panic or fail.
struct Trap {
    blobs: MemoryBlobs,
    panics: bool,
}

#[async_trait::async_trait]
impl Blobs for Trap {
    async fn stage(&self) -> Result<Staged, blobs::Error> {
        self.blobs.stage().await
    }
    async fn put(&self, staged: Staged, key: &Key) -> Result<(), blobs::Error> {
        self.blobs.put(staged, key).await
    }
    async fn read(&self, _: &Key, _: std::ops::Range<u64>) -> Result<ByteStream, blobs::Error> {
        assert!(!self.panics, "a trap");
        Err(blobs::Error::Backend { operation: "read an object".into(), source: "a trap".into() })
    }
    async fn size(&self, key: &Key) -> Result<Option<u64>, blobs::Error> {
        self.blobs.size(key).await
    }
    async fn delete(&self, key: &Key) -> Result<(), blobs::Error> {
        self.blobs.delete(key).await
    }
    async fn flush(&self) -> Result<(), blobs::Error> {
        self.blobs.flush().await
    }
    fn unconfirmed(&self) -> Vec<Key> {
        self.blobs.unconfirmed()
    }
    fn list(&self, bucket: Bucket, prefix: &str) -> BoxStream<'static, Result<ListedObject, blobs::Error>> {
        self.blobs.list(bucket, prefix)
    }
}

#[tokio::test]
async fn a_panic_costs_the_preview_of_one_series_and_not_the_thread() {
    let config = Config::load(None, &[("preview".into(), "quiet_seconds".into(), "0".into())]).unwrap();
    let index = Arc::new(crate::index::Index::in_memory());
    let blobs = Trap { blobs: MemoryBlobs::new(), panics: true };
    let archive = Archive::new(Arc::new(blobs), index, &config);
    let mut upload = archive.receive(&Caller::anonymous(), None).await;
    upload.write(Bytes::from(slice("1.3", 1, 0.0, 0).file(transfer_syntax::EXPLICIT_VR_LITTLE_ENDIAN))).await;
    upload.finish().await.await.result.unwrap();
    let due = due_previews(&archive, 10).await.unwrap();
    assert_eq!(make_preview(&archive, &due[0]).await.unwrap(), Outcome::Failed);
    assert_eq!(due_previews(&archive, 10).await.unwrap(), []);
}

#[tokio::test]
async fn one_damaged_frame_costs_its_slice_alone() {
    let bench = Bench::new(&[]);
    bench.store(garbage("1.3")).await;
    bench.store(slice("1.3", 2, 0.0, 7).file(transfer_syntax::EXPLICIT_VR_LITTLE_ENDIAN)).await;
    assert_eq!(bench.make_all().await, [Outcome::Made]);
    let stream = bench.stream("1.3", None).await.unwrap();
    assert!(stream.index.slices[0].failure.is_some() && stream.index.slices[0].length == 0);
    assert!((stream.mean(1) - 7.0).abs() < 2.0);
}

#[tokio::test]
async fn a_missing_object_costs_its_slice_alone() {
    let bench = Bench::new(&[]);
    bench.store(slice("1.3", 1, 0.0, 5).file(transfer_syntax::EXPLICIT_VR_LITTLE_ENDIAN)).await;
    let originals: Vec<_> = bench.blobs.list(Bucket::Originals, "").try_collect().await.unwrap();
    bench.store(slice("1.3", 2, 1.0, 7).file(transfer_syntax::EXPLICIT_VR_LITTLE_ENDIAN)).await;
    bench.blobs.delete(&originals[0].key).await.unwrap();
    assert_eq!(bench.make_all().await, [Outcome::Made]);
    let stream = bench.stream("1.3", None).await.unwrap();
    assert_eq!(stream.index.slices[0].failure.as_deref(), Some("the object is missing or damaged"));
    assert!((stream.mean(1) - 7.0).abs() < 2.0);
}

#[tokio::test]
async fn trouble_is_tried_again_later_and_given_up_in_the_end() {
    let mut bench = Bench::new(&[]);
    let settings = [("quiet_seconds", "0"), ("retry_seconds", "0"), ("max_attempts", "3")];
    let settings = settings.map(|(name, text)| ("preview".into(), name.into(), text.into()));
    let config = Config::load(None, &settings).unwrap();
    let blobs = Trap { blobs: MemoryBlobs::new(), panics: false };
    bench.archive = Archive::new(Arc::new(blobs), Arc::new(crate::index::Index::in_memory()), &config);
    bench.store(slice("1.3", 1, 0.0, 0).file(transfer_syntax::EXPLICIT_VR_LITTLE_ENDIAN)).await;
    assert_eq!(bench.make_all().await, [Outcome::Retried]);
    assert!(matches!(bench.state("1.3").await, PreviewState::Pending { attempts: 1, .. }));
    assert_eq!(bench.make_all().await, [Outcome::Retried]);
    assert_eq!(bench.make_all().await, [Outcome::Failed]);
    assert!(matches!(bench.state("1.3").await, PreviewState::Failed { attempts: 3, .. }));
    assert_eq!(bench.due().await, []);
}

#[tokio::test]
async fn binned_pixels_keep_their_place_in_the_patient() {
    let bench = Bench::new(&[("binning", "2")]);
    bench.store(slice("1.3", 1, 0.0, 0).file(transfer_syntax::EXPLICIT_VR_LITTLE_ENDIAN)).await;
    bench.make_all().await;
    let stream = bench.stream("1.3", None).await.unwrap();
    let image = &stream.index.images[0];
    assert_eq!((image.rows, image.columns, image.binning), (24, 32, 2));
    assert_eq!(image.spacing, Some([1.0, 0.5]));
    assert_eq!(stream.index.slices[0].position, Some([-10.0 + 0.125, -20.0 + 0.25, 0.0]));
}

#[tokio::test]
async fn deflated_objects_have_previews_too() {
    let bench = Bench::new(&[]);
    let data_set = slice("1.3", 1, 0.0, 300).bytes();
    let mut encoder = flate2::write::DeflateEncoder::new(Vec::new(), flate2::Compression::fast());
    encoder.write_all(&data_set).unwrap();
    let deflated = DataSet::explicit().raw(&encoder.finish().unwrap());
    bench.store(deflated.file(transfer_syntax::DEFLATED_EXPLICIT_VR_LITTLE_ENDIAN)).await;
    assert_eq!(bench.make_all().await, [Outcome::Made]);
    assert!((bench.stream("1.3", None).await.unwrap().mean(0) - 300.0).abs() < 2.0);
}

#[tokio::test]
async fn no_more_frames_are_decoded_at_a_time_than_there_are_cores() {
    let bench = Bench::new(&[]);
    bench.store(slice("1.3", 1, 0.0, 300).file(transfer_syntax::EXPLICIT_VR_LITTLE_ENDIAN)).await;
    let uids = ("1.2".parse().unwrap(), "1.3".parse().unwrap(), "1.3.1".parse().unwrap());
    let record = bench.archive.instance(&bench.caller, &uids.0, &uids.1, &uids.2).await.unwrap();
    let cores = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
    let mut others = Vec::new();
    while others.len() < cores {
        others.push(bench.archive.permits.codec(&bench.caller).await);
    }
    let mut waiting = Box::pin(decoded_frame(&bench.archive, &bench.caller, &record, 1));
    assert!(futures_util::poll!(&mut waiting).is_pending());
    drop(others);
    assert!(waiting.await.is_ok());
}

#[tokio::test]
async fn a_decoded_frame_is_native_and_little_endian() {
    let bench = Bench::new(&[]);
    bench.store(slice("1.3", 1, 0.0, 300).file(transfer_syntax::EXPLICIT_VR_LITTLE_ENDIAN)).await;
    let (study, series, instance) = ("1.2", "1.3", "1.3.1");
    let (study, series, instance) =
        (study.parse().unwrap(), series.parse().unwrap(), instance.parse().unwrap());
    let record = bench.archive.instance(&bench.caller, &study, &series, &instance).await.unwrap();
    let frame = decoded_frame(&bench.archive, &bench.caller, &record, 1).await.unwrap();
    assert_eq!((frame.bytes.len(), frame.photometric.as_str()), (64 * 48 * 2, "MONOCHROME2"));
    assert_eq!(frame.bytes[..2], 298_i16.to_le_bytes());
    assert!(matches!(
        decoded_frame(&bench.archive, &bench.caller, &record, 2).await,
        Err(Error::NotFound(_))
    ));
}
