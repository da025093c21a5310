//! Previews from instances taken in to slices given back.

use std::io::Write;
use std::sync::Arc;
use std::task::Poll;
use std::time::Duration;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use futures_util::TryStreamExt;
use futures_util::stream::BoxStream;
use serde_json::{Value, json};

use crate::archive::access::Caller;
use crate::archive::derived::frames::decoded_frame;
use crate::archive::derived::preview::encoded::SeriesKey;
use crate::archive::derived::preview::stream::{PreviewProgress, StreamPart};
use crate::archive::derived::preview::{
    Due, Outcome, ahead, due_previews, make_preview, stream, take_preview,
};
use crate::archive::maintenance::delete::delete;
use crate::archive::scope::Scope;
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
        self.part(series, StreamPart { slices, ..StreamPart::default() }).await
    }

    async fn part(&self, series: &str, part: StreamPart) -> Result<Stream, Error> {
        let (study, series) = ("1.2".parse().unwrap(), series.parse().unwrap());
        let preview = stream::open(&self.archive, &self.caller, &study, &series, &part).await?;
        let chunks = stream::read(&self.archive, &preview, 0..preview.length()).await?;
        let bytes = chunks.try_collect::<Vec<_>>().await?.concat();
        assert_eq!(bytes.len() as u64, preview.length());
        Ok(Stream::read(bytes))
    }

    async fn progress(&self, series: &str) -> PreviewProgress {
        let (study, series) = ("1.2".parse().unwrap(), series.parse().unwrap());
        stream::progress(&self.archive, &self.caller, &study, &series).await.unwrap()
    }

    /// Encodes all stored instances as they are stored, until the pool has `encoded` slices of a series.
    async fn encode_ahead(&self, series: &str, encoded: u64) {
        let (study, series) = ("1.2".parse().unwrap(), series.parse().unwrap());
        let until = async {
            loop {
                let progress = stream::progress(&self.archive, &self.caller, &study, &series).await;
                if progress.is_ok_and(|progress| progress.encoded == encoded) {
                    return;
                }
                tokio::time::sleep(Duration::from_millis(1)).await;
            }
        };
        // The job begins before the first instance is stored.
        tokio::select! {
            biased;
            () = ahead::encode_stored(&self.archive) => {}
            () = until => {}
        }
    }

    async fn number_of_previews(&self) -> usize {
        self.blobs.list(Bucket::Previews, "").try_collect::<Vec<_>>().await.unwrap().len()
    }
}

/// A stream, read as docs/fast-stream.md says.
struct Stream {
    bytes: Vec<u8>,
    index: Value,
    /// For each slice, the level that is there, and its bytes between the main header and the end marker.
    slices: Vec<Option<(u64, Vec<u8>)>>,
}

impl Stream {
    fn read(bytes: Vec<u8>) -> Self {
        assert_eq!(&bytes[..12], b"CUSPIDST\x02\0\0\0");
        let index_end = 16 + u32::from_le_bytes(bytes[12..16].try_into().unwrap()) as usize;
        let index: Value = serde_json::from_slice(&bytes[16..index_end]).unwrap();
        assert!(["j2k", "htj2k"].contains(&index["codec"].as_str().unwrap()));
        let count = index["count"].as_u64().unwrap();
        let mut slices = vec![None; count as usize];
        let mut lengths = index["lengths"].as_array().unwrap().iter();
        let mut offset = index_end;
        for stage in index["stages"].as_array().unwrap() {
            for slice in 0..count {
                let place = index["first_slice"].as_u64().unwrap() + slice;
                let image = column(&index["image"], slice as usize);
                if !place.is_multiple_of(stage["stride"].as_u64().unwrap()) || image.is_null() {
                    continue;
                }
                let image = &index["images"][image.as_u64().unwrap() as usize];
                let target = stage["level"].as_u64().unwrap().min(image["levels"].as_u64().unwrap() - 1);
                let have: &mut Option<(u64, Vec<u8>)> = &mut slices[slice as usize];
                if have.as_ref().is_none_or(|(level, _)| *level > target) {
                    let end = offset + lengths.next().unwrap().as_u64().unwrap() as usize;
                    if end > bytes.len() {
                        return Self { bytes, index, slices };
                    }
                    let mut there = have.take().map_or(Vec::new(), |(_, there)| there);
                    there.extend_from_slice(&bytes[offset..end]);
                    *have = Some((target, there));
                    offset = end;
                }
            }
            assert_eq!(offset as u64, index_end as u64 + stage["end"].as_u64().unwrap());
        }
        assert_eq!((lengths.next(), offset), (None, bytes.len()));
        Self { bytes, index, slices }
    }

    fn column(&self, name: &str, slice: usize) -> Value {
        column(&self.index[name], slice)
    }

    fn image(&self, slice: usize) -> &Value {
        &self.index["images"][self.column("image", slice).as_u64().unwrap() as usize]
    }

    fn instance(&self, slice: usize) -> String {
        let place = self.column("instance", slice).as_u64().unwrap() as usize;
        let instances = &self.index["instances"];
        format!("{}{}", instances["prefix"].as_str().unwrap(), instances["rest"][place].as_str().unwrap())
    }

    /// The decoded samples of a slice in the level that is there.
    fn decode(&self, slice: usize) -> (u64, crate::pixel::Image) {
        let (level, tile_parts) = self.slices[slice].clone().unwrap();
        let image = self.image(slice);
        let head = STANDARD.decode(image["head"].as_str().unwrap()).unwrap();
        let codestream = [&head[..], &tile_parts, &[0xFF, 0xD9]].concat();
        let number = |name: &str| image[name].as_u64().unwrap() as u32;
        let shape =
            Shape { rows: number("rows"), columns: number("columns"), samples: number("samples") as u16 };
        (level, j2k::decode(&codestream, shape, level as u32).unwrap())
    }

    /// The mean of a slice's decoded samples.
    fn mean(&self, slice: usize) -> f64 {
        let (_, decoded) = self.decode(slice);
        let scale = f64::from(1 << self.image(slice)["drop"].as_u64().unwrap());
        let samples = decoded.samples;
        scale * samples.iter().map(|sample| f64::from(*sample)).sum::<f64>() / samples.len() as f64
    }
}

/// The value of a column for a slice.
fn column(column: &Value, slice: usize) -> Value {
    if let Some(all) = column.get("all") {
        return all.clone();
    }
    if let Some(each) = column.get("each") {
        return each[slice].clone();
    }
    let at = |first: &Value, step: &Value| {
        let value = first.as_f64().unwrap() + slice as f64 * step.as_f64().unwrap();
        if first.is_u64() { json!(value as u64) } else { json!(value) }
    };
    match &column["first"] {
        Value::Array(first) => first
            .iter()
            .zip(column["step"].as_array().unwrap())
            .map(|(first, step)| at(first, step))
            .collect(),
        first => at(first, &column["step"]),
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
    check_twelve(&stream);
    assert_eq!((&stream.index["state"], &stream.index["number_of_slices"]), (&json!("complete"), &json!(12)));
}

#[tokio::test]
async fn the_codec_is_a_setting_and_the_index_names_it() {
    for codec in ["j2k", "htj2k"] {
        let bench = Bench::new(&[("codec", codec)]);
        store_twelve(&bench).await;
        assert_eq!(bench.make_all().await, [Outcome::Made]);
        let stream = bench.stream("1.3", None).await.unwrap();
        check_twelve(&stream);
        assert_eq!(stream.index["codec"], codec);
        assert_eq!(bench.stream("1.3", Some(4..6)).await.unwrap().index["codec"], codec);
        // The first stage alone decodes, too.
        let first = bench.part("1.3", StreamPart { stage: Some(0), ..StreamPart::default() }).await.unwrap();
        assert!((first.mean(0) - -500.0).abs() < 3.0);
    }
}

#[tokio::test]
async fn a_series_that_changes_gets_the_codec_of_the_settings() {
    let bench = Bench::new(&[]);
    store_twelve(&bench).await;
    bench.make_all().await;
    let mut overrides = vec![("preview".to_owned(), "quiet_seconds".to_owned(), "0".to_owned())];
    overrides.push(("preview".into(), "codec".into(), "htj2k".into()));
    let config = Config::load(None, &overrides).unwrap();
    let archive = Archive::new(bench.blobs.clone(), bench.archive.index.clone(), &config);
    let bench = Bench { archive, ..bench };
    assert_eq!(bench.stream("1.3", None).await.unwrap().index["codec"], "j2k");
    bench.store(slice("1.3", 13, 30.0, 0).file(transfer_syntax::EXPLICIT_VR_LITTLE_ENDIAN)).await;
    bench.make_all().await;
    let stream = bench.stream("1.3", None).await.unwrap();
    assert_eq!((&stream.index["codec"], &stream.index["count"]), (&json!("htj2k"), &json!(13)));
    for place in 0..13 {
        let head = STANDARD.decode(stream.image(place)["head"].as_str().unwrap()).unwrap();
        assert_eq!(head[6], 0x40, "slice {place} is of the codec before");
    }
}

/// Checks a stream of the slices of [`store_twelve`].
fn check_twelve(stream: &Stream) {
    let index = &stream.index;
    assert_eq!((&index["order"], &index["slice_spacing"]), (&json!("space"), &json!(2.5)));
    assert_eq!(index["count"], 12);
    // Quantisation steps are in the main header.
    let descriptions = index["images"].as_array().unwrap().len();
    assert!(descriptions == 1 || (index["codec"] == "htj2k" && descriptions < 4), "{descriptions}");
    let image = &index["images"][0];
    assert_eq!(
        (&image["signed"], &image["lossless"], &image["precision"]),
        (&json!(true), &json!(false), &json!(16))
    );
    assert_eq!(index["psnr"]["peak"], 7, "the samples have five values");
    assert!(index["psnr"]["db"].as_f64().unwrap() > 5.0, "{}", index["psnr"]);
    for place in 0..12 {
        assert_eq!(stream.column("rescale", place), json!([1.0, -1024.0]));
        assert_eq!(stream.column("spacing", place), json!([0.5, 0.25]));
        assert_eq!(stream.column("frame", place), 1);
        assert_eq!(stream.instance(place), format!("1.3.{}", 12 - place));
        assert_eq!(stream.column("position", place), json!([-10.0, -20.0, 2.5 * place as f64]));
        assert!((stream.mean(place) - (100.0 * place as f64 - 500.0)).abs() < 2.0, "slice {place}");
    }
}

#[tokio::test]
async fn a_range_of_slices_is_a_stream_of_its_own() {
    let bench = Bench::new(&[]);
    store_twelve(&bench).await;
    bench.make_all().await;
    let part = bench.stream("1.3", Some(4..6)).await.unwrap();
    let index = &part.index;
    assert_eq!(
        (&index["number_of_slices"], &index["first_slice"], &index["count"]),
        (&json!(12), &json!(4), &json!(2))
    );
    assert_eq!((part.instance(0), part.instance(1)), ("1.3.8".into(), "1.3.7".into()));
    assert!((part.mean(1) - 0.0).abs() < 2.0);
    for slices in [12..13, 5..5, 0..13] {
        assert!(matches!(bench.stream("1.3", Some(slices)).await, Err(Error::NotFound(_))));
    }
    let beyond = bench.stream("1.3", Some(0..13)).await;
    assert!(matches!(beyond, Err(Error::NotFound(text)) if text.starts_with("slices 0-12 in the series")));
}

#[tokio::test]
async fn every_range_of_bytes_is_that_of_the_whole() {
    let bench = Bench::new(&[]);
    bench.store(slice("1.3", 1, 0.0, 0).file(transfer_syntax::EXPLICIT_VR_LITTLE_ENDIAN)).await;
    bench.make_all().await;
    let (study, series) = ("1.2".parse().unwrap(), "1.3".parse().unwrap());
    let preview =
        stream::open(&bench.archive, &bench.caller, &study, &series, &StreamPart::default()).await.unwrap();
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
    assert_eq!(bench.stream("1.3", None).await.unwrap().index["count"], 3);
}

#[tokio::test]
async fn a_preview_that_is_dropped_at_any_moment_is_due_or_there() {
    let bench = Bench::new(&[]);
    store_twelve(&bench).await;
    let mut drops = 0;
    while let Some(due) = bench.due().await.pop() {
        // The slices that were encoded by then are kept.
        match bench.stream("1.3", None).await {
            Ok(partial) => assert_eq!(partial.index["state"], "partial"),
            Err(error) => assert!(matches!(error, Error::NotReady(_)), "{error}"),
        }
        drops += 1;
        let mut polls = 0;
        let mut making = Box::pin(make_preview(&bench.archive, &due));
        std::future::poll_fn(|context| {
            polls += 1;
            if polls > drops { Poll::Ready(()) } else { making.as_mut().poll(context).map(|_| ()) }
        })
        .await;
    }
    assert!(drops > 5, "it was dropped {drops} times");
    assert_eq!(bench.stream("1.3", None).await.unwrap().index["count"], 12);
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
    let preview =
        stream::open(&bench.archive, &bench.caller, &study, &series, &StreamPart::default()).await.unwrap();
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
    assert!(stream.index["failures"][0]["reason"].as_str().unwrap().contains("JPEG"), "{}", stream.index);
    assert_eq!((stream.column("image", 0), &stream.index["failures"][0]["slice"]), (Value::Null, &json!(0)));
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
    let failures = json!([{"slice": 0, "reason": "the object is missing or damaged"}]);
    assert_eq!(stream.index["failures"], failures);
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
    let image = stream.image(0);
    assert_eq!((&image["rows"], &image["columns"], &image["binning"]), (&json!(24), &json!(32), &json!(2)));
    assert_eq!(stream.column("spacing", 0), json!([1.0, 0.5]));
    assert_eq!(stream.column("position", 0), json!([-10.0 + 0.125, -20.0 + 0.25, 0.0]));
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

/// An instance of 300 x 260 pixels in a frame for each level of grey.
fn large(series: &str, number: u32, greys: &[u16]) -> DataSet {
    let pixels: Vec<u8> = greys
        .iter()
        .flat_map(|grey| {
            (0..300 * 260_u32)
                .flat_map(move |at| (grey + (at.wrapping_mul(at) / 977 % 64) as u16).to_le_bytes())
        })
        .collect();
    image(series, number)
        .us(0x0028_0002, &[1])
        .text(0x0028_0004, "CS", "MONOCHROME2")
        .text(0x0028_0008, "IS", &greys.len().to_string())
        .us(0x0028_0010, &[260])
        .us(0x0028_0011, &[300])
        .us(0x0028_0100, &[16])
        .us(0x0028_0101, &[12])
        .us(0x0028_0102, &[11])
        .us(0x0028_0103, &[0])
        .element(0x7FE0_0010, "OW", &pixels)
}

#[tokio::test]
async fn every_stage_is_a_beginning_of_the_stream_and_decodes_as_the_whole() {
    let bench = Bench::new(&[]);
    let greys = [100, 900, 1700];
    bench.store(large("1.3", 1, &greys).file(transfer_syntax::EXPLICIT_VR_LITTLE_ENDIAN)).await;
    assert_eq!(bench.make_all().await, [Outcome::Made]);
    let whole = bench.stream("1.3", None).await.unwrap();
    let stages = whole.index["stages"].as_array().unwrap().len();
    assert_eq!((stages, whole.image(0)["levels"].as_u64()), (3, Some(3)));
    for stage in 0..stages + 2 {
        let part = StreamPart { stage: Some(stage), ..StreamPart::default() };
        let prefix = bench.part("1.3", part).await.unwrap();
        assert!(whole.bytes.starts_with(&prefix.bytes) && prefix.index == whole.index);
        for (slice, grey) in greys.iter().enumerate() {
            let (level, decoded) = prefix.decode(slice);
            assert_eq!(level as usize, 2_usize.saturating_sub(stage));
            assert_eq!(decoded.shape.columns, 300_u32.div_ceil(1 << level));
            let mean = prefix.mean(slice);
            assert!((mean - f64::from(*grey) - 31.0).abs() < 8.0, "{stage}, {slice}: {mean}");
        }
    }
}

#[tokio::test]
async fn a_version_names_one_stream() {
    let bench = Bench::new(&[]);
    store_twelve(&bench).await;
    bench.make_all().await;
    let (study, series) = ("1.2".parse().unwrap(), "1.3".parse().unwrap());
    let open =
        async |part: &StreamPart| stream::open(&bench.archive, &bench.caller, &study, &series, part).await;
    let version = open(&StreamPart::default()).await.unwrap().version;
    let named = StreamPart { version, ..StreamPart::default() };
    assert!(open(&named).await.is_ok());
    bench.store(slice("1.3", 13, 99.0, 0).file(transfer_syntax::EXPLICIT_VR_LITTLE_ENDIAN)).await;
    assert!(matches!(open(&named).await, Err(Error::NotFound(_))));
    bench.make_all().await;
    assert!(matches!(open(&named).await, Err(Error::NotFound(_))));
    assert!(open(&StreamPart::default()).await.is_ok());
}

#[tokio::test]
async fn slices_are_encoded_while_they_arrive_and_the_stream_grows() {
    let bench = Bench::new(&[]);
    tokio::join!(bench.encode_ahead("1.3", 12), store_twelve(&bench));
    let partial = bench.stream("1.3", None).await.unwrap();
    check_twelve(&partial);
    assert_eq!(partial.index["state"], "partial");
    let part = bench.stream("1.3", Some(3..5)).await.unwrap();
    assert_eq!((part.instance(0), &part.index["first_slice"]), ("1.3.9".into(), &json!(3)));
    assert!(matches!(bench.stream("1.3", Some(12..13)).await, Err(Error::NotFound(_))));

    // Nothing is read from the originals any more.
    let originals: Vec<_> = bench.blobs.list(Bucket::Originals, "").try_collect().await.unwrap();
    for original in originals {
        bench.blobs.delete(&original.key).await.unwrap();
    }
    let job = tokio::time::timeout(Duration::from_secs(9), ahead::next_quiet(&bench.archive)).await.unwrap();
    assert_eq!((job.study.as_str(), job.series.as_str()), ("1.2", "1.3"));
    assert!(matches!(
        take_preview(&bench.archive, &job, Duration::ZERO).await,
        Ok(super::PreviewLease::Acquired(_))
    ));
    assert_eq!(bench.make_all().await, [Outcome::Made]);
    let complete = bench.stream("1.3", None).await.unwrap();
    check_twelve(&complete);
    assert_eq!(complete.index["state"], "complete");
}

#[tokio::test]
async fn a_partial_stream_shows_nothing_that_was_deleted() {
    let bench = Bench::new(&[]);
    tokio::join!(bench.encode_ahead("1.3", 12), store_twelve(&bench));
    assert_eq!(bench.stream("1.3", None).await.unwrap().index["count"], 12);
    let held = bench.archive.slices.slices(&bench.due().await[0].key());
    let scope =
        Scope { study: "1.2".parse().unwrap(), series: "1.3".parse().ok(), instance: "1.3.5".parse().ok() };
    delete(&bench.archive, &bench.caller, scope).await.unwrap();
    assert!(matches!(bench.stream("1.3", None).await, Err(Error::NotReady(_))));
    // As in a process that did not see the deletion.
    let key = bench.due().await[0].key();
    bench.archive.slices.begin(&key);
    for slice in held {
        bench.archive.slices.insert(&key, slice);
    }
    let stream = bench.stream("1.3", None).await.unwrap();
    assert_eq!(stream.index["count"], 11);
    assert!((0..11).all(|slice| stream.instance(slice) != "1.3.5"));
}

#[tokio::test]
async fn only_slices_that_are_new_are_encoded_again() {
    let bench = Bench::new(&[]);
    store_twelve(&bench).await;
    bench.make_all().await;
    // As after a restart.
    let (tenant, study) = (bench.caller.tenant.clone(), "1.2".parse().unwrap());
    bench.archive.slices.forget(&tenant, &study);
    let originals: Vec<_> = bench.blobs.list(Bucket::Originals, "").try_collect().await.unwrap();
    bench.store(slice("1.3", 0, 30.0, 700).file(transfer_syntax::EXPLICIT_VR_LITTLE_ENDIAN)).await;
    for original in originals {
        bench.blobs.delete(&original.key).await.unwrap();
    }
    assert_eq!(bench.make_all().await, [Outcome::Made]);
    let stream = bench.stream("1.3", None).await.unwrap();
    assert_eq!((&stream.index["count"], &stream.index["failures"]), (&json!(13), &json!([])));
    for place in 0..13 {
        assert!((stream.mean(place) - (100.0 * place as f64 - 500.0)).abs() < 2.0, "slice {place}");
    }
}

#[tokio::test]
async fn slices_that_do_not_fit_in_memory_are_in_the_preview_all_the_same() {
    for ahead in [false, true] {
        let bench = Bench::new(&[("max_memory_bytes", "3000")]);
        match ahead {
            true => {
                let full = async {
                    store_twelve(&bench).await;
                    let key = bench.due().await[0].key();
                    // Further frames would be encoded twice.
                    while !bench.archive.slices.is_given_up(&key) {
                        tokio::time::sleep(Duration::from_millis(1)).await;
                    }
                };
                tokio::select! {
                    biased;
                    () = ahead::encode_stored(&bench.archive) => {}
                    full = tokio::time::timeout(Duration::from_secs(60), full) => full.unwrap(),
                }
            }
            false => store_twelve(&bench).await,
        }
        let key = bench.due().await[0].key();
        bench.archive.slices.forget(&key.tenant, &key.study);
        assert_eq!(bench.make_all().await, [Outcome::Made]);
        check_twelve(&bench.stream("1.3", None).await.unwrap());
        assert!(bench.archive.slices.slices(&key).len() < 12);
    }
}

#[tokio::test]
async fn a_preview_in_another_format_is_made_again() {
    let bench = Bench::new(&[]);
    store_twelve(&bench).await;
    bench.make_all().await;
    let object = bench.blobs.list(Bucket::Previews, "").try_collect::<Vec<_>>().await.unwrap().remove(0);
    let (key, size_bytes) = (object.key, object.size_bytes as usize);
    for damage in [&b"CUSPIDST\x01\0\0\0"[..], b""] {
        bench.blobs.delete(&key).await.unwrap();
        if !damage.is_empty() {
            let mut staged = bench.blobs.stage().await.unwrap();
            staged.write(damage).unwrap();
            staged.write(&vec![0; size_bytes - damage.len()]).unwrap();
            bench.blobs.put(staged, &key).await.unwrap();
        }
        let stream = bench.stream("1.3", None).await;
        assert!(matches!(stream, Err(Error::NotReady(_))), "a stream of {damage:?}");
        assert_eq!(bench.make_all().await, [Outcome::Made]);
        check_twelve(&bench.stream("1.3", None).await.unwrap());
    }
    // Who waits for the state sees it change, too.
    bench.blobs.delete(&key).await.unwrap();
    assert_eq!(bench.progress("1.3").await.state, "pending");
    assert_eq!(bench.make_all().await, [Outcome::Made]);
    assert_eq!(bench.progress("1.3").await.state, "ready");
}

#[tokio::test]
async fn the_state_of_a_series_is_partial_if_and_only_if_there_is_a_stream() {
    let bench = Bench::new(&[]);
    let of_series = |series: &str| {
        let (study, series) = ("1.2".parse().unwrap(), series.parse().unwrap());
        SeriesKey { tenant: bench.caller.tenant.clone(), study, series }
    };
    let stored = async {
        bench.store(garbage("1.3")).await;
        bench.store(slice("1.4", 1, 1.0, 0).file(transfer_syntax::EXPLICIT_VR_LITTLE_ENDIAN)).await;
        let held = |series: &str| bench.archive.slices.slices(&of_series(series)).len();
        while held("1.3") == 0 || held("1.4") == 0 {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    };
    tokio::select! {
        biased;
        () = ahead::encode_stored(&bench.archive) => {}
        () = stored => {}
    }
    let (failed, encoded) = (bench.progress("1.3").await, bench.progress("1.4").await);
    assert_eq!((failed.state, failed.encoded, failed.slices), ("pending", 0, 1));
    assert_eq!((encoded.state, encoded.encoded, encoded.slices), ("partial", 1, 1));
    assert!(matches!(bench.stream("1.3", None).await, Err(Error::NotReady(_))));
    assert_eq!(bench.stream("1.4", None).await.unwrap().index["count"], 1);
    // As in a process that did not see a deletion.
    let held = bench.archive.slices.slices(&of_series("1.4"));
    bench.store(slice("1.4", 2, 2.0, 0).file(transfer_syntax::EXPLICIT_VR_LITTLE_ENDIAN)).await;
    let scope =
        Scope { study: "1.2".parse().unwrap(), series: "1.4".parse().ok(), instance: "1.4.1".parse().ok() };
    delete(&bench.archive, &bench.caller, scope).await.unwrap();
    bench.archive.slices.begin(&of_series("1.4"));
    held.into_iter().for_each(|slice| bench.archive.slices.insert(&of_series("1.4"), slice));
    assert_eq!(bench.progress("1.4").await.state, "pending");
    assert!(matches!(bench.stream("1.4", None).await, Err(Error::NotReady(_))));
}

#[tokio::test]
async fn a_study_that_was_deleted_is_in_the_pool_no_more() {
    let bench = Bench::new(&[]);
    store_twelve(&bench).await;
    let key = bench.due().await[0].key();
    bench.archive.slices.begin(&key);
    assert!(bench.archive.slices.is_to_measure(&key));
    bench.archive.slices.forget(&key.tenant, &key.study);
    assert!(!bench.archive.slices.is_to_measure(&key) && bench.archive.slices.is_given_up(&key));
}

#[tokio::test]
async fn frames_of_an_instance_have_their_own_places() {
    let bench = Bench::new(&[]);
    bench.store(large("1.3", 1, &[5, 6, 7, 8]).file(transfer_syntax::EXPLICIT_VR_LITTLE_ENDIAN)).await;
    assert_eq!(bench.make_all().await, [Outcome::Made]);
    let stream = bench.stream("1.3", None).await.unwrap();
    let frames: Vec<_> = (0..4).map(|slice| stream.column("frame", slice)).collect();
    assert_eq!(frames, [1, 2, 3, 4].map(|frame| json!(frame)));
    assert_eq!(stream.index["order"], "number");
}
