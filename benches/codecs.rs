//! How long a frame takes in each codec that frames are transcoded with, and to be rendered: `cargo bench
//! --bench codecs`.

use std::hint::black_box;

use criterion::{Criterion, criterion_group, criterion_main};

use cuspid::config::Config;
use cuspid::decoders::{Decoders, Priority, Request};
use cuspid::dicom::frames::PixelLayout;
use cuspid::pixel::decode::{Decoded, FrameEncoding, decode};
use cuspid::pixel::j2k;
use cuspid::pixel::preview::{self, END_OF_CODESTREAM, PreviewCodec, PreviewRate};
use cuspid::pixel::render::encode::{Format, encode};
use cuspid::pixel::render::{Display, render_frame};
use cuspid::pixel::transcode::Codec;

const SIDE: u32 = 512;

/// A slice of 12 bits in 16: a disc of soft tissue in air, with noise.
fn slice() -> (PixelLayout, Vec<u8>) {
    let layout = PixelLayout {
        rows: SIDE,
        columns: SIDE,
        samples: 1,
        bits_allocated: 16,
        bits_stored: 12,
        high_bit: 11,
        is_signed: false,
        photometric: "MONOCHROME2".into(),
        is_planar: false,
        number_of_frames: 1,
    };
    let mut random = 1_u32;
    let mut samples = Vec::new();
    for place in 0..SIDE * SIDE {
        let from_centre = |at: u32| i64::from(at) - i64::from(SIDE / 2);
        let is_inside = from_centre(place / SIDE).pow(2) + from_centre(place % SIDE).pow(2) < 200 * 200;
        random = random.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        let level = if is_inside { 1000 + place % SIDE } else { 24 };
        samples.extend_from_slice(&((level + (random >> 28)) as u16).to_le_bytes());
    }
    (layout, samples)
}

fn native(layout: &PixelLayout, samples: &[u8]) -> Decoded {
    let stored = FrameEncoding::Native { first_bit: 0 };
    decode(samples, layout, stored).expect("the frame is whole")
}

fn codecs(criterion: &mut Criterion) {
    let (layout, samples) = slice();
    for codec in Codec::ALL.into_iter().filter(|codec| codec.can_carry(&layout)) {
        let frame = native(&layout, &samples);
        let encoded = codec.encode(frame.clone(), &layout).expect("it may carry the frame").bytes;
        let ratio = samples.len() as f64 / encoded.len() as f64;
        criterion.bench_function(&format!("{codec:?}, {ratio:.1} to 1: encode"), |bencher| {
            bencher.iter(|| codec.encode(black_box(frame.clone()), &layout));
        });
        criterion.bench_function(&format!("{codec:?}: decode"), |bencher| {
            let stored = FrameEncoding::Compressed(codec.transfer_syntax());
            bencher.iter(|| decode(black_box(&encoded), &layout, stored));
        });
    }
}

/// A slice of a preview, in both codecs and at two ratios.
fn previews(criterion: &mut Criterion) {
    let (layout, samples) = slice();
    let frame = native(&layout, &samples);
    for codec in [PreviewCodec::J2k, PreviewCodec::HighThroughput] {
        for ratio in [10, 20] {
            let rate =
                PreviewRate { compression_ratio: ratio, noisy_compression_ratio: ratio, binning: 1, codec };
            let encoded = preview::encode(frame.clone(), rate, true).expect("it may be encoded");
            let bytes = encoded.tile_parts.len();
            let square = encoded.error.expect("it was measured").mean_square;
            criterion.bench_function(
                &format!(
                    "preview {codec:?} at {ratio} to 1 ({bytes} bytes, mean square {square:.1}): encode"
                ),
                |bencher| bencher.iter(|| preview::encode(black_box(frame.clone()), rate, false)),
            );
            let parts = [&encoded.description.head[..], &encoded.tile_parts, &END_OF_CODESTREAM].concat();
            criterion.bench_function(&format!("preview {codec:?} at {ratio} to 1: decode"), |bencher| {
                bencher.iter(|| j2k::decode(black_box(&parts), encoded.description.shape, 0));
            });
        }
    }
}

/// What a decoder process costs: the same frames, decoded in this process and in one that has been used
/// before.
fn processes(criterion: &mut Criterion) {
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().expect("a runtime starts");
    let mut settings = Config::defaults().decoders;
    settings.program = env!("CARGO_BIN_EXE_cuspid").into();
    settings.max_frames = u32::MAX;
    settings.max_seconds = 3600;
    let decoders = Decoders::new(&settings);
    let (layout, samples) = slice();
    let narrow = PixelLayout { bits_allocated: 8, bits_stored: 8, high_bit: 7, ..layout.clone() };
    let bytes: Vec<u8> =
        samples.chunks(2).map(|word| (u16::from_le_bytes([word[0], word[1]]) >> 4) as u8).collect();
    for (name, codec, layout, samples) in [
        ("JPEG 2000 at 10 to 1", Codec::Jpeg2000Lossy, &layout, &samples),
        ("JPEG-LS", Codec::JpegLs, &layout, &samples),
        ("JPEG baseline", Codec::JpegBaseline, &narrow, &bytes),
    ] {
        let encoded = codec.encode(native(layout, samples), layout).expect("it may carry the frame").bytes;
        criterion.bench_function(&format!("{name}: decode in this process"), |bencher| {
            let stored = FrameEncoding::Compressed(codec.transfer_syntax());
            bencher.iter(|| decode(black_box(&encoded), layout, stored));
        });
        criterion.bench_function(&format!("{name}: decode in a decoder process"), |bencher| {
            bencher.iter(|| {
                runtime.block_on(async {
                    let place = decoders.place("", Priority::Request).await.expect("there are processes");
                    let (layout, frame) = (layout.clone(), encoded.clone());
                    let request = Request { layout, transfer_syntax: codec.transfer_syntax().into(), frame };
                    place.decode(request).await.map(|(frame, _)| frame.unpack()).expect("the frame is whole")
                })
            });
        });
    }
}

fn pictures(criterion: &mut Criterion) {
    let (layout, samples) = slice();
    for format in [Format::Jpeg, Format::Png] {
        criterion.bench_function(&format!("rendered as {format:?}"), |bencher| {
            bencher.iter(|| {
                let canvas = render_frame(native(&layout, black_box(&samples)), &Display::default());
                encode(&canvas.expect("it is grey"), format, 90, None)
            });
        });
    }
}

criterion_group! {
    name = benches;
    config = Criterion::default().sample_size(20);
    targets = codecs, previews, processes, pictures
}
criterion_main!(benches);
