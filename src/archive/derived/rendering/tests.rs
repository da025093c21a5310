//! Rendered images and thumbnails of ingested instances.

use std::sync::Arc;

use bytes::Bytes;
use futures_util::TryStreamExt;

use crate::archive::access::Caller;
use crate::archive::derived::rendering::renderer;
use crate::archive::derived::rendering::thumbnail::thumbnail;
use crate::archive::derived::rendering::{
    Annotation, Format, IccProfile, Renderer, Rendering, Viewport, VoiFunction, Window,
};
use crate::archive::scope::Scope;
use crate::archive::{Archive, Error};
use crate::blobs::memory::MemoryBlobs;
use crate::blobs::{Blobs, Bucket};
use crate::config::Config;
use crate::dicom::build::DataSet;
use crate::dicom::transfer_syntax;
use crate::dicom::uids;
use crate::index::records::InstanceRecord;

struct Bench {
    archive: Arc<Archive>,
    blobs: Arc<MemoryBlobs>,
    caller: Caller,
}

impl Bench {
    fn new(settings: &[(&str, &str)]) -> Self {
        let replace = ("ingest".to_owned(), "duplicates".to_owned(), "replace".to_owned());
        let settings =
            settings.iter().map(|(name, text)| ("rendering".into(), (*name).into(), (*text).into()));
        let overrides: Vec<_> = settings.chain([replace]).collect();
        let config = Config::load(None, &overrides).unwrap();
        let blobs = Arc::new(MemoryBlobs::new());
        let index = Arc::new(crate::index::Index::in_memory());
        let archive = Archive::new(blobs.clone(), index, &config);
        Self { archive, blobs, caller: Caller::anonymous() }
    }

    async fn store(&self, data_set: DataSet) {
        let mut upload = self.archive.receive(&self.caller, None).await;
        upload.write(Bytes::from(data_set.file(transfer_syntax::EXPLICIT_VR_LITTLE_ENDIAN))).await;
        upload.finish().await.await.result.unwrap();
    }

    async fn record(&self, series: &str, number: u32) -> InstanceRecord {
        let instance = format!("{series}.{number}").parse().unwrap();
        let (study, series) = ("1.2".parse().unwrap(), series.parse().unwrap());
        self.archive.instance(&self.caller, &study, &series, &instance).await.unwrap()
    }

    async fn rendered(&self, frame: u32, rendering: &Rendering) -> Result<Picture, Error> {
        Ok(Picture::read(&self.renderer(rendering).await?.frame(frame).await?))
    }

    async fn renderer(&self, rendering: &Rendering) -> Result<Renderer, Error> {
        let record = Arc::new(self.record("1.3", 1).await);
        renderer(&self.archive, &self.caller, &record, rendering).await
    }

    async fn thumbnail(&self, scope: &Scope, frame: Option<u32>) -> Result<(Picture, String), Error> {
        let thumbnail = thumbnail(&self.archive, &self.caller, scope, frame, Format::Png, [8, 8]).await?;
        Ok((Picture::read(&thumbnail.bytes), thumbnail.version))
    }

    async fn kept(&self) -> Vec<String> {
        let entries: Vec<_> = self.blobs.list(Bucket::Thumbnails, "").try_collect().await.unwrap();
        let mut paths: Vec<_> = entries.into_iter().map(|entry| entry.key.path).collect();
        paths.sort();
        paths
    }
}

/// A decoded PNG.
#[derive(Debug, PartialEq)]
struct Picture {
    size: (u32, u32),
    pixels: Vec<u8>,
}

impl Picture {
    fn read(bytes: &[u8]) -> Self {
        let mut reader = png::Decoder::new(std::io::Cursor::new(bytes)).read_info().unwrap();
        let mut pixels = vec![0; reader.output_buffer_size().unwrap()];
        let info = reader.next_frame(&mut pixels).unwrap();
        Self { size: (info.width, info.height), pixels }
    }
}

fn image(series: &str, number: u32, levels: &[i16]) -> DataSet {
    image_of("CT", series, number, levels)
}

/// An instance of 8 × 4 pixels of 16 bits, with one level for all pixels of a frame.
fn image_of(modality: &str, series: &str, number: u32, levels: &[i16]) -> DataSet {
    let pixels: Vec<u8> = levels.iter().flat_map(|level| level.to_le_bytes().repeat(32)).collect();
    DataSet::explicit()
        .text(0x0008_0016, "UI", uids::CT_IMAGE_STORAGE)
        .text(0x0008_0018, "UI", &format!("{series}.{number}"))
        .text(0x0008_0060, "CS", modality)
        .text(0x0010_0010, "PN", "Doe^Jane")
        .text(0x0020_000D, "UI", "1.2")
        .text(0x0020_000E, "UI", series)
        .text(0x0020_0011, "IS", &series[2..])
        .text(0x0020_0013, "IS", &number.to_string())
        .us(0x0028_0002, &[1])
        .text(0x0028_0004, "CS", "MONOCHROME2")
        .text(0x0028_0008, "IS", &levels.len().to_string())
        .us(0x0028_0010, &[4])
        .us(0x0028_0011, &[8])
        .us(0x0028_0100, &[16])
        .us(0x0028_0101, &[16])
        .us(0x0028_0102, &[15])
        .us(0x0028_0103, &[1])
        .text(0x0028_1050, "DS", "128")
        .text(0x0028_1051, "DS", "256")
        .element(0x7FE0_0010, "OW", &pixels)
}

fn png() -> Rendering {
    Rendering::plain(Format::Png)
}

fn scope(series: Option<&str>, instance: Option<&str>) -> Scope {
    Scope {
        study: "1.2".parse().unwrap(),
        series: series.map(|series| series.parse().unwrap()),
        instance: instance.map(|instance| instance.parse().unwrap()),
    }
}

#[tokio::test]
async fn a_frame_is_rendered_by_its_own_window_or_the_one_asked_for() {
    let bench = Bench::new(&[]);
    bench.store(image("1.3", 1, &[10, 200])).await;
    for (frame, expected) in [(1, 10), (2, 200)] {
        let picture = bench.rendered(frame, &png()).await.unwrap();
        assert_eq!(picture, Picture { size: (8, 4), pixels: vec![expected; 32] });
    }
    let window = Some(Window { center: 100.0, width: 400.0, function: VoiFunction::LinearExact });
    let picture = bench.rendered(2, &Rendering { window, ..png() }).await.unwrap();
    assert_eq!(picture.pixels[0], 191);
    assert!(matches!(bench.rendered(3, &png()).await, Err(Error::NotFound(_))));
}

#[tokio::test]
async fn a_viewport_an_annotation_and_a_profile_change_the_picture() {
    let bench = Bench::new(&[("max_viewport_pixels", "10000")]);
    bench.store(image("1.3", 1, &[10])).await;
    let viewport = Some(Viewport::area(100, 100));
    let large = Rendering { viewport, ..png() };
    assert_eq!(bench.rendered(1, &large).await.unwrap().size, (100, 50));
    let annotation = Annotation { patient: true, technique: false };
    let annotated = bench.rendered(1, &Rendering { annotation, ..large.clone() }).await.unwrap();
    assert!(annotated.pixels[..1000].contains(&255) && !annotated.pixels[4000..].contains(&255));
    let profile = Rendering { icc_profile: IccProfile::Srgb, ..png() };
    assert_eq!(bench.rendered(1, &profile).await.unwrap().pixels, [10; 96]);

    let beyond = Rendering { viewport: Some(Viewport::area(100, 101)), ..png() };
    let Err(Error::TooLarge(reason)) = bench.rendered(1, &beyond).await else { panic!("a picture") };
    assert!(reason.contains("rendering.max_viewport_pixels"), "{reason}");
}

#[tokio::test]
async fn all_frames_make_an_animation_within_limits() {
    let bench = Bench::new(&[("max_animation_frames", "3")]);
    bench.store(image("1.3", 1, &[10, 20, 30])).await;
    bench.store(image("1.3", 2, &[1, 2, 3, 4])).await;
    let gif = Rendering::plain(Format::Gif);
    let bytes = bench.renderer(&gif).await.unwrap().animation().await.unwrap();
    let mut decoder = gif::DecodeOptions::new().read_info(&bytes[..]).unwrap();
    for level in [10, 20, 30] {
        let frame = decoder.read_next_frame().unwrap().unwrap();
        assert_eq!((frame.delay, frame.buffer[0]), (10, level));
    }
    let record = Arc::new(bench.record("1.3", 2).await);
    let refused = renderer(&bench.archive, &bench.caller, &record, &gif).await.unwrap().animation().await;
    let Err(Error::TooLarge(reason)) = refused else { panic!("an animation") };
    assert!(reason.contains("rendering.max_animation_frames"), "{reason}");
}

#[tokio::test]
async fn a_thumbnail_shows_the_middle_of_the_first_series_with_images() {
    let bench = Bench::new(&[]);
    for number in 1..=3 {
        bench.store(image("1.10", number, &[100])).await;
        bench.store(image("1.9", number, &[number as i16, 10 * number as i16])).await;
    }
    bench.store(image_of("SEG", "1.2", 1, &[7])).await;
    for (scope, frame, level) in [
        (scope(None, None), None, 20),
        (scope(Some("1.9"), None), None, 20),
        (scope(Some("1.9"), Some("1.9.3")), None, 30),
        (scope(Some("1.9"), Some("1.9.3")), Some(1), 3),
        (scope(Some("1.10"), None), None, 100),
    ] {
        let (picture, _) = bench.thumbnail(&scope, frame).await.unwrap();
        assert_eq!(picture, Picture { size: (8, 4), pixels: vec![level; 32] }, "{scope:?}");
    }
    for scope in [scope(Some("1.8"), None), scope(Some("1.9"), Some("1.9.9"))] {
        assert!(matches!(bench.thumbnail(&scope, None).await, Err(Error::NotFound(_))));
    }
}

#[tokio::test]
async fn a_thumbnail_is_made_once_and_answered_from_store() {
    let bench = Bench::new(&[]);
    bench.store(image("1.3", 1, &[10])).await;
    let series = scope(Some("1.3"), None);
    // Both requests run at once, and a second decoding would fail: the object is deleted by then.
    let (first, second) = futures_util::join!(bench.thumbnail(&series, None), bench.thumbnail(&series, None));
    assert_eq!(first.unwrap(), second.unwrap());
    let originals: Vec<_> = bench.blobs.list(Bucket::Originals, "").try_collect().await.unwrap();
    bench.blobs.delete(&originals[0].key).await.unwrap();
    assert!(bench.thumbnail(&series, None).await.is_ok());
    // Another thumbnail is a placeholder, which is not stored.
    assert!(bench.thumbnail(&scope(None, None), None).await.unwrap().1.starts_with("sheet-"));
    assert_eq!(bench.kept().await.len(), 1);
}

#[tokio::test]
async fn what_changes_gets_another_thumbnail_and_loses_the_old_one() {
    let bench = Bench::new(&[]);
    bench.store(image("1.3", 1, &[10])).await;
    let scopes = [scope(None, None), scope(Some("1.3"), None), scope(Some("1.3"), Some("1.3.1"))];
    let mut versions = Vec::new();
    for scope in &scopes {
        versions.push(bench.thumbnail(scope, None).await.unwrap().1);
    }
    let before = bench.kept().await;
    bench.store(image("1.3", 1, &[20])).await;
    for (scope, version) in scopes.iter().zip(versions) {
        let (picture, changed) = bench.thumbnail(scope, None).await.unwrap();
        assert_eq!(picture.pixels[0], 20);
        assert_ne!(changed, version);
    }
    let after = bench.kept().await;
    assert_eq!((before.len(), after.len()), (3, 3));
    assert!(after.iter().all(|path| !before.contains(path) && path.starts_with("default/1.2/")));
}

#[tokio::test]
async fn thumbnails_of_one_thing_that_are_kept_have_a_limit() {
    let bench = Bench::new(&[]);
    bench.store(image("1.3", 1, &[10])).await;
    let series = scope(Some("1.3"), None);
    for width in 1..=260 {
        let area = [width, 1];
        thumbnail(&bench.archive, &bench.caller, &series, None, Format::Png, area).await.unwrap();
    }
    assert_eq!(bench.kept().await.len(), 256);
}

#[tokio::test]
async fn a_thumbnail_is_no_larger_than_the_limit() {
    let bench = Bench::new(&[("max_thumbnail_px", "4")]);
    bench.store(image("1.3", 1, &[10])).await;
    assert_eq!(bench.thumbnail(&scope(None, None), None).await.unwrap().0.size, (4, 2));
}

fn state(sop_class: &str) -> DataSet {
    DataSet::explicit()
        .text(0x0008_0016, "UI", sop_class)
        .text(0x0008_0018, "UI", "1.9.1")
        .text(0x0020_000D, "UI", "1.2")
        .text(0x0020_000E, "UI", "1.9")
        .text(0x0070_0041, "CS", "Y")
        .text(0x2050_0020, "CS", "INVERSE")
}

#[tokio::test]
async fn a_presentation_state_is_applied_if_it_is_there_and_of_a_known_kind() {
    let presentation_state = Some(("1.9".parse().unwrap(), "1.9.1".parse().unwrap()));
    let presented = Rendering { presentation_state, ..png() };
    for (sop_class, is_applied) in [
        (uids::GRAYSCALE_SOFTCOPY_PRESENTATION_STATE_STORAGE, true),
        (uids::BLENDING_SOFTCOPY_PRESENTATION_STATE_STORAGE, false),
    ] {
        let bench = Bench::new(&[]);
        bench.store(image("1.3", 1, &[10])).await;
        assert!(matches!(bench.rendered(1, &presented).await, Err(Error::NotFound(_))));
        bench.store(state(sop_class)).await;
        match bench.rendered(1, &presented).await {
            // All values are the same: the lowest of them is white.
            Ok(picture) => assert_eq!((is_applied, picture.pixels), (true, vec![255; 32])),
            Err(Error::Unsupported(reason)) => assert!(!is_applied && reason.contains(sop_class)),
            Err(error) => panic!("{error}"),
        }
    }
}
