//! JPEG 2000 codestreams, plain and high-throughput, through OpenJPEG (ISO/IEC 15444-1 and -15; PS3.5
//! §8.2.4).
//!
//! A codestream's size is read and checked before OpenJPEG sees it.
#![expect(unsafe_code, reason = "OpenJPEG is a C library; this is the only file that speaks to it")]

use std::borrow::Cow;
use std::ffi::{CStr, c_char, c_void};
use std::ptr::{self, NonNull};

use openjpeg_sys as opj;

use crate::dicom::jpeg_2000::{self, Jpeg2000Size};
use crate::pixel::{Error, Image, Shape, j2k_limits};

/// The most resolutions that an encoded frame has: the full one and five halvings.
const MAX_RESOLUTIONS: u32 = 6;

/// Bytes that pass between OpenJPEG and this program at a time.
const STREAM_BYTES: usize = 64 * 1024;

/// The code-block style of selective arithmetic coding bypass.
const BYPASS: i32 = 1;

/// The marker at the end of a codestream.
pub const END_OF_CODESTREAM: [u8; 2] = [0xFF, 0xD9];

/// The loss of an encoding.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Loss {
    /// Nothing: reversible 5/3 wavelet.
    None,
    /// The codestream takes at most this many bytes: irreversible 9/7 wavelet.
    Bytes(usize),
    /// As [`Loss::Bytes`], with the low bit planes stored without arithmetic coding (selective bypass,
    /// ISO/IEC 15444-1 §D.6): faster, at nearly the same quality.
    FastBytes(usize),
}

/// The parts of a codestream from [`encode`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CodestreamParts {
    /// The end of the main header, from the start of the codestream.
    pub head_end: usize,
    /// The end of each resolution's tile-part, the coarsest first, from the start of the codestream.
    pub resolution_ends: Vec<usize>,
}

/// Encodes a frame of 1 to 16 bits and 1 or 3 samples; three are taken for red, green and blue, which are
/// turned to luminance and chrominance first.
///
/// The codestream goes by resolution (RPCL), one tile, one tile-part a resolution: cut after a tile-part (see
/// [`parts`]) and ended by `FF D9`, it is the frame at that resolution.
///
/// # Errors
/// [`Error::Size`], [`Error::Unsupported`] for other images; [`Error::Codec`] if OpenJPEG fails.
pub fn encode(image: &Image, loss: Loss) -> Result<Vec<u8>, Error> {
    encode_components(image, loss, image.shape.samples == 3)
}

/// Encodes as [`encode`], with three samples of any colours, turned to luminance and chrominance or not.
///
/// # Errors
/// As [`encode`].
pub(super) fn encode_components(image: &Image, loss: Loss, is_turned: bool) -> Result<Vec<u8>, Error> {
    let count = image.shape.number_of_samples()?;
    if image.samples.len() != count {
        return Err(Error::Short { needed: count, found: image.samples.len() });
    }
    if !(1..=16).contains(&image.precision) || !matches!(image.shape.samples, 1 | 3) {
        let Image { precision, shape, .. } = image;
        return Err(Error::Unsupported(format!("{} samples of {precision} bits", shape.samples)));
    }
    let mut messages = Messages::default();
    let mut written = Vec::new();
    let parameters = encoder_parameters(image, loss, is_turned);
    if write_codestream(image, parameters, &mut messages, &mut written).is_none() {
        return Err(messages.into_error());
    }
    Ok(written)
}

/// Decodes a codestream, or the one in a JP2 file, at full resolution (`reduce` 0) or halved `reduce` times.
///
/// # Errors
/// [`Error::Mismatch`] if its size is not `expected`, [`Error::Size`] if that is too large,
/// [`Error::Unsupported`] if its components are of more than 31 bits or numbers of colours of a palette,
/// [`Error::Codec`] if it is damaged or if its components are of different precision or sign. Components that
/// are subsampled are enlarged to the size of the first one.
pub fn decode(bytes: &[u8], expected: Shape, reduce: u32) -> Result<Image, Error> {
    let expected_samples = expected.number_of_samples()?;
    let start = jpeg_2000::codestream_offset(bytes).ok_or_else(|| failed("there is no codestream"))?;
    let (boxes, codestream) = bytes.split_at(start);
    if jpeg_2000::has_palette(boxes) {
        return Err(Error::Unsupported("a JP2 file with a palette".into()));
    }
    check_size(codestream, expected)?;
    j2k_limits::check(codestream)?;
    let mut messages = Messages::default();
    let image = read_codestream(&with_end(codestream), reduce, &mut messages);
    let image = image.ok_or_else(|| messages.into_error())?;
    let is_whole = reduce != 0 || image.samples.len() == expected_samples;
    if is_whole && image.shape.number_of_samples()? == image.samples.len() {
        Ok(image)
    } else {
        Err(Error::Short { needed: expected_samples, found: image.samples.len() })
    }
}

/// The parts of a codestream from [`encode`]; `None` if it has no tile-part.
pub fn parts(codestream: &[u8]) -> Option<CodestreamParts> {
    let (mut head_end, mut resolution_ends) = (None, Vec::new());
    let mut at = 2;
    while let Some(&[marker_high, marker_low, length_high, length_low]) =
        codestream.get(at..at + 4).and_then(|bytes| bytes.first_chunk::<4>())
    {
        let is_tile_part = [marker_high, marker_low] == [0xFF, 0x90];
        let advance = if is_tile_part {
            be32(codestream, at + 6).unwrap_or(0) as usize
        } else {
            2 + usize::from(u16::from_be_bytes([length_high, length_low]))
        };
        if advance < 4 || at + advance > codestream.len() {
            break;
        }
        if is_tile_part {
            head_end.get_or_insert(at);
            resolution_ends.push(at + advance);
        }
        at += advance;
    }
    Some(CodestreamParts { head_end: head_end?, resolution_ends })
}

/// Compares the image and tile size (ISO/IEC 15444-1 §A.5.1) with what is expected.
fn check_size(codestream: &[u8], expected: Shape) -> Result<(), Error> {
    let size = Jpeg2000Size::of(codestream).ok_or_else(|| failed("the size of the image is damaged"))?;
    let ([columns, rows], components) = (size.extent(), size.components.len());
    if (rows, columns, components) != (expected.rows, expected.columns, expected.samples.into()) {
        let found = format!("{rows} x {columns} pixels of {components} samples");
        return Err(Error::Mismatch { expected, found });
    }
    let [across, down] = size.tiles();
    // OpenJPEG keeps some kilobytes for each tile, whether the tile is there or not.
    if across.saturating_mul(down) > 64 + u64::from(rows) * u64::from(columns) / 1024 {
        return Err(Error::Unsupported("an image of that many tiles".into()));
    }
    Ok(())
}

/// The codestream with an end marker, which some encoders leave out and OpenJPEG requires.
fn with_end(codestream: &[u8]) -> Cow<'_, [u8]> {
    let padding = codestream.iter().rev().take_while(|&&byte| byte == 0).count();
    let significant = &codestream[..codestream.len() - padding];
    if significant.ends_with(&END_OF_CODESTREAM) {
        Cow::Borrowed(significant)
    } else {
        Cow::Owned([codestream, &END_OF_CODESTREAM].concat())
    }
}

fn be32(bytes: &[u8], offset: usize) -> Option<u32> {
    bytes.get(offset..)?.first_chunk().map(|bytes| u32::from_be_bytes(*bytes))
}

/// The reason of a failure that OpenJPEG does not report. It reports all but failed allocations.
pub(crate) const NO_REASON: &str = "the codec failed without a reason";

fn failed(reason: &str) -> Error {
    Error::Codec { codec: "JPEG 2000", reason: reason.into() }
}

/// Resolutions that an image of this size can have: as long as its smaller side can be halved.
fn resolutions(shape: Shape) -> u32 {
    (shape.rows.min(shape.columns).ilog2() + 1).min(MAX_RESOLUTIONS)
}

/// OpenJPEG's rate for a size in bytes: it counts the raw size at `precision` bits a sample.
fn rate(image: &Image, loss: Loss) -> f32 {
    match loss {
        Loss::None => 0.0,
        Loss::Bytes(bytes) | Loss::FastBytes(bytes) => {
            let raw_bytes = image.samples.len() as f32 * image.precision as f32 / 8.0;
            // A rate of 1 or less would mean lossless to OpenJPEG.
            (raw_bytes / bytes.max(1) as f32).max(1.01)
        }
    }
}

/// The messages of OpenJPEG: its first error, or else its first warning.
#[derive(Default)]
struct Messages {
    error: Option<String>,
    warning: Option<String>,
}

impl Messages {
    fn into_error(self) -> Error {
        failed(self.error.or(self.warning).as_deref().unwrap_or(NO_REASON))
    }
}

/// A structure of OpenJPEG that is destroyed when this is dropped.
struct Owned<T> {
    pointer: NonNull<T>,
    destroy: unsafe extern "C" fn(*mut T),
}

impl<T> Owned<T> {
    fn new(pointer: *mut T, destroy: unsafe extern "C" fn(*mut T)) -> Option<Self> {
        Some(Self { pointer: NonNull::new(pointer)?, destroy })
    }

    fn get(&self) -> *mut T {
        self.pointer.as_ptr()
    }
}

impl<T> Drop for Owned<T> {
    fn drop(&mut self) {
        // SAFETY: the pointer came from the constructor that belongs to `destroy` and is destroyed only here.
        unsafe { (self.destroy)(self.pointer.as_ptr()) }
    }
}

/// Encodes into `written`; `None` if OpenJPEG fails.
fn write_codestream(
    image: &Image,
    mut parameters: opj::opj_cparameters_t,
    messages: &mut Messages,
    written: &mut Vec<u8>,
) -> Option<()> {
    let components = to_components(image)?;
    // SAFETY: codec and stream are checked for null by `Owned` and live until the end of the function, as do
    // `messages` and `written`, which the callbacks reach through the pointers given here and which nothing
    // else touches meanwhile. OpenJPEG copies `parameters`.
    unsafe {
        let codec = opj::opj_create_compress(opj::CODEC_FORMAT::OPJ_CODEC_J2K);
        let codec = Owned::new(codec, opj::opj_destroy_codec)?;
        listen(codec.get(), messages);
        succeeded(opj::opj_setup_encoder(codec.get(), &mut parameters, components.get()))?;
        let stream = Owned::new(opj::opj_stream_create(STREAM_BYTES, 0), opj::opj_stream_destroy)?;
        opj::opj_stream_set_user_data(stream.get(), ptr::from_mut(written).cast(), None);
        opj::opj_stream_set_write_function(stream.get(), Some(append));
        succeeded(opj::opj_start_compress(codec.get(), components.get(), stream.get()))?;
        succeeded(opj::opj_encode(codec.get(), stream.get()))?;
        succeeded(opj::opj_end_compress(codec.get(), stream.get()))
    }
}

fn encoder_parameters(image: &Image, loss: Loss, is_turned: bool) -> opj::opj_cparameters_t {
    // SAFETY: the structure is plain numbers and pointers, for all of which zero is a value (its enums have
    // one for 0); OpenJPEG then sets all that is not zero by default.
    let mut parameters = unsafe {
        let mut parameters = std::mem::zeroed();
        opj::opj_set_default_encoder_parameters(&mut parameters);
        parameters
    };
    parameters.tcp_numlayers = 1;
    parameters.cp_disto_alloc = 1;
    parameters.tcp_rates[0] = rate(image, loss);
    parameters.irreversible = i32::from(loss != Loss::None);
    if matches!(loss, Loss::FastBytes(_)) {
        parameters.mode = BYPASS;
    }
    parameters.tcp_mct = c_char::from(is_turned);
    parameters.prog_order = opj::PROG_ORDER::OPJ_RPCL;
    parameters.numresolution = resolutions(image.shape) as i32;
    parameters.tp_on = 1;
    parameters.tp_flag = b'R' as c_char;
    parameters
}

/// Copies an image to one of OpenJPEG's, a plane for each component.
fn to_components(image: &Image) -> Option<Owned<opj::opj_image_t>> {
    let Shape { rows, columns, samples } = image.shape;
    let is_colour = samples == 3;
    let space = if is_colour { opj::COLOR_SPACE::OPJ_CLRSPC_SRGB } else { opj::COLOR_SPACE::OPJ_CLRSPC_GRAY };
    let component = opj::opj_image_cmptparm_t {
        dx: 1,
        dy: 1,
        w: columns,
        h: rows,
        x0: 0,
        y0: 0,
        prec: image.precision,
        bpp: image.precision,
        sgnd: image.is_signed.into(),
    };
    let mut parameters = vec![component; samples.into()];
    let planes = usize::from(samples);
    // SAFETY: OpenJPEG reads `samples` parameters and allocates rows × columns values for each component, or
    // returns null, which `Owned` refuses. `image.samples` holds that many values for each plane, as the
    // caller has checked.
    unsafe {
        let created = opj::opj_image_create(samples.into(), parameters.as_mut_ptr(), space);
        let created = Owned::new(created, opj::opj_image_destroy)?;
        (*created.get()).x1 = columns;
        (*created.get()).y1 = rows;
        for plane in 0..planes {
            let data = NonNull::new((*(*created.get()).comps.add(plane)).data)?;
            let data = std::slice::from_raw_parts_mut(data.as_ptr(), image.samples.len() / planes);
            let values = image.samples.iter().skip(plane).step_by(planes);
            data.iter_mut().zip(values).for_each(|(to, from)| *to = *from);
        }
        Some(created)
    }
}

/// Decodes a codestream; `None` if OpenJPEG fails.
fn read_codestream(codestream: &[u8], reduce: u32, messages: &mut Messages) -> Option<Image> {
    let mut source = SampleSource { bytes: codestream, position: 0 };
    // SAFETY: as in `write_codestream`; `source` lives until the end of the function. OpenJPEG sets `image`
    // to null or to an image that is ours to destroy.
    unsafe {
        let codec = opj::opj_create_decompress(opj::CODEC_FORMAT::OPJ_CODEC_J2K);
        let codec = Owned::new(codec, opj::opj_destroy_codec)?;
        listen(codec.get(), messages);
        let mut parameters = std::mem::zeroed();
        opj::opj_set_default_decoder_parameters(&mut parameters);
        parameters.cp_reduce = reduce;
        succeeded(opj::opj_setup_decoder(codec.get(), &mut parameters))?;
        let stream = Owned::new(opj::opj_stream_create(STREAM_BYTES, 1), opj::opj_stream_destroy)?;
        opj::opj_stream_set_user_data(stream.get(), ptr::from_mut(&mut source).cast(), None);
        opj::opj_stream_set_user_data_length(stream.get(), codestream.len() as u64);
        opj::opj_stream_set_read_function(stream.get(), Some(read));
        opj::opj_stream_set_skip_function(stream.get(), Some(skip));
        opj::opj_stream_set_seek_function(stream.get(), Some(seek));
        let mut image = ptr::null_mut();
        let header = succeeded(opj::opj_read_header(stream.get(), codec.get(), &mut image));
        let image = Owned::new(image, opj::opj_image_destroy)?;
        header?;
        succeeded(opj::opj_decode(codec.get(), stream.get(), image.get()))?;
        from_components(&image)
    }
}

/// Copies an image of OpenJPEG's; `None` if its components differ in precision or sign, or one was not
/// decoded.
fn from_components(image: &Owned<opj::opj_image_t>) -> Option<Image> {
    // SAFETY: OpenJPEG made the image: `comps` points to `numcomps` components, and `data` is null or points
    // to w × h values.
    let components = unsafe {
        let image = &*image.get();
        std::slice::from_raw_parts(NonNull::new(image.comps)?.as_ptr(), image.numcomps as usize)
    };
    let first = components.first()?;
    let shape = Shape { rows: first.h, columns: first.w, samples: components.len().try_into().ok()? };
    let mut samples = vec![0; shape.number_of_samples().ok()?];
    for (plane, component) in components.iter().enumerate() {
        let is_alike = (component.prec, component.sgnd) == (first.prec, first.sgnd);
        let data = NonNull::new(component.data).filter(|_| is_alike)?;
        // SAFETY: as above.
        let data =
            unsafe { std::slice::from_raw_parts(data.as_ptr(), component.w as usize * component.h as usize) };
        let places = samples.iter_mut().skip(plane).step_by(components.len());
        if (component.w, component.h) == (first.w, first.h) {
            places.zip(data).for_each(|(to, from)| *to = *from);
        } else {
            let enlarged = enlarge(data, [component.w, component.h], [first.w, first.h])?;
            places.zip(enlarged).for_each(|(to, from)| *to = from);
        }
    }
    Some(Image { shape, precision: first.prec, is_signed: first.sgnd != 0, samples })
}

/// The samples of a subsampled component, `from` columns and rows, repeated for `to` columns and rows; `None`
/// if the component is empty or larger.
fn enlarge(data: &[i32], from: [u32; 2], to: [u32; 2]) -> Option<impl Iterator<Item = i32>> {
    let [[columns, rows], [all_columns, all_rows]] = [from, to].map(|size| size.map(|side| side as usize));
    let is_smaller = (1..=all_columns).contains(&columns) && (1..=all_rows).contains(&rows);
    // A component has every n-th sample, and the first one (ISO/IEC 15444-1 §B.2).
    let step = |all: usize, some: usize| all.div_ceil(some);
    let (across, down) = (step(all_columns, columns.max(1)), step(all_rows, rows.max(1)));
    let place = move |row: usize, column: usize| {
        (row / down).min(rows - 1) * columns + (column / across).min(columns - 1)
    };
    let places = (0..all_rows).flat_map(move |row| (0..all_columns).map(move |column| place(row, column)));
    is_smaller.then(|| places.map(|place| data[place]))
}

fn succeeded(result: opj::OPJ_BOOL) -> Option<()> {
    (result == 1).then_some(())
}

/// Registers callbacks that keep the messages of a codec.
///
/// # Safety
/// `codec` is valid, and `messages` outlives it and is not touched before it is destroyed.
unsafe fn listen(codec: *mut opj::opj_codec_t, messages: &mut Messages) {
    let messages: *mut c_void = ptr::from_mut(messages).cast();
    // SAFETY: by this function's own conditions.
    unsafe {
        opj::opj_set_error_handler(codec, Some(keep_error), messages);
        opj::opj_set_warning_handler(codec, Some(keep_warning), messages);
    }
}

unsafe extern "C" fn keep_error(message: *const c_char, messages: *mut c_void) {
    // SAFETY: OpenJPEG gives a string that ends with NUL, and the pointer that `listen` gave it.
    let (message, messages) = unsafe { (CStr::from_ptr(message), &mut *messages.cast::<Messages>()) };
    messages.error.get_or_insert_with(|| message.to_string_lossy().trim().into());
}

unsafe extern "C" fn keep_warning(message: *const c_char, messages: *mut c_void) {
    // SAFETY: as in `keep_error`.
    let (message, messages) = unsafe { (CStr::from_ptr(message), &mut *messages.cast::<Messages>()) };
    messages.warning.get_or_insert_with(|| message.to_string_lossy().trim().into());
}

unsafe extern "C" fn append(bytes: *mut c_void, length: usize, written: *mut c_void) -> usize {
    // SAFETY: OpenJPEG gives `length` readable bytes, and the pointer to the vector that it was given.
    let (bytes, written) =
        unsafe { (std::slice::from_raw_parts(bytes.cast::<u8>(), length), &mut *written.cast::<Vec<u8>>()) };
    written.extend_from_slice(bytes);
    length
}

/// A codestream that OpenJPEG reads.
struct SampleSource<'a> {
    bytes: &'a [u8],
    position: usize,
}

unsafe extern "C" fn read(buffer: *mut c_void, length: usize, source: *mut c_void) -> usize {
    // SAFETY: OpenJPEG gives room for `length` bytes, and the pointer to the source that it was given.
    let (buffer, source) = unsafe { (buffer.cast::<u8>(), &mut *source.cast::<SampleSource<'_>>()) };
    let rest = source.bytes.get(source.position..).unwrap_or_default();
    if rest.is_empty() {
        return usize::MAX; // the end, in OpenJPEG's words
    }
    let taken = rest.len().min(length);
    // SAFETY: both sides hold `taken` bytes, and the buffer is not part of the source.
    unsafe { ptr::copy_nonoverlapping(rest.as_ptr(), buffer, taken) }
    source.position += taken;
    taken
}

unsafe extern "C" fn skip(bytes: i64, source: *mut c_void) -> i64 {
    // SAFETY: OpenJPEG gives the pointer to the source that it was given.
    let source = unsafe { &mut *source.cast::<SampleSource<'_>>() };
    let target = (source.position as i64).saturating_add(bytes).clamp(0, source.bytes.len() as i64);
    let skipped = target - source.position as i64;
    source.position = target as usize;
    if skipped == 0 && bytes != 0 { -1 } else { skipped }
}

unsafe extern "C" fn seek(position: i64, source: *mut c_void) -> opj::OPJ_BOOL {
    // SAFETY: as in `skip`.
    let source = unsafe { &mut *source.cast::<SampleSource<'_>>() };
    let is_inside = (0..=source.bytes.len() as i64).contains(&position);
    if is_inside {
        source.position = position as usize;
    }
    is_inside.into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_jp2_file_with_a_palette_is_refused_and_one_without_is_read() {
        let shape = Shape { rows: 4, columns: 4, samples: 1 };
        let image = Image { shape, precision: 8, is_signed: false, samples: (0..16).collect() };
        let codestream = encode(&image, Loss::None).unwrap();
        let boxed =
            |kind: &[u8], content: &[u8]| [&(8 + content.len() as u32).to_be_bytes(), kind, content].concat();
        let file = |header: &[u8]| {
            let signature = b"\0\0\0\x0CjP  \r\n\x87\n".as_slice();
            [signature, &boxed(b"jp2h", header), &boxed(b"jp2c", &codestream)].concat()
        };
        let colours = boxed(b"pclr", &[0, 1, 3, 7, 7, 7, 1, 2, 3]);
        assert_eq!(decode(&file(&[]), shape, 0).unwrap(), image);
        assert!(matches!(decode(&file(&colours), shape, 0), Err(Error::Unsupported(_))));
    }

    #[test]
    fn a_codestream_has_one_size() {
        let shape = Shape { rows: 4, columns: 4, samples: 1 };
        let image = Image { shape, precision: 8, is_signed: false, samples: (0..16).collect() };
        let codestream = encode(&image, Loss::None).unwrap();
        let size_bytes = 2 + usize::from(u16::from_be_bytes([codestream[4], codestream[5]]));
        let (start, rest) = codestream.split_at(2 + size_bytes);
        assert!(decode(&[start, &start[2..], rest].concat(), shape, 0).is_err());
    }

    /// Slopes, waves and a little noise over the whole range of values.
    fn picture(rows: u32, columns: u32, samples: u16, precision: u32, is_signed: bool) -> Image {
        let shape = Shape { rows, columns, samples };
        let range = f64::from(1_u32 << precision);
        let lowest = if is_signed { -range / 2.0 } else { 0.0 };
        let mut noise = 1_u32;
        let sample = |place: u32| {
            let (sample, place) = (place % u32::from(samples), place / u32::from(samples));
            let (x, y) = (f64::from(place % columns), f64::from(place / columns));
            noise = noise.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            let slope = (x + y + f64::from(sample)) / f64::from(rows + columns + 3);
            let level = 0.4 * slope + 0.25 * (x / 9.0).sin().abs() + 0.25 * (y / 13.0).cos().abs();
            let noise = f64::from(noise >> 8) / f64::from(1 << 24) / 64.0;
            (lowest + range * (level + noise).min(0.999)) as i32
        };
        let count = rows * columns * u32::from(samples);
        Image { shape, precision, is_signed, samples: (0..count).map(sample).collect() }
    }

    fn psnr(first: &Image, second: &Image) -> f64 {
        let pairs = first.samples.iter().zip(&second.samples);
        let squares: f64 = pairs.map(|(a, b)| f64::from(a - b).powi(2)).sum();
        let peak = f64::from((1_u32 << first.precision) - 1);
        10.0 * (peak * peak * first.samples.len() as f64 / squares.max(1e-9)).log10()
    }

    fn tenth(image: &Image) -> usize {
        image.samples.len() * if image.precision > 8 { 2 } else { 1 } / 10
    }

    #[test]
    fn lossless_frames_come_back_as_they_were() {
        for (rows, columns) in [(64, 48), (1, 1), (1, 70), (3, 5), (33, 2)] {
            for (samples, precision, is_signed) in
                [(1, 8, false), (1, 8, true), (1, 12, true), (1, 16, false), (1, 16, true), (3, 8, false)]
            {
                let image = picture(rows, columns, samples, precision, is_signed);
                let codestream = encode(&image, Loss::None).unwrap();
                assert_eq!(decode(&codestream, image.shape, 0).unwrap(), image);
            }
        }
    }

    #[test]
    fn a_tenth_of_the_bytes_keeps_the_picture() {
        for (samples, precision, is_signed, least) in [
            (1, 8, false, 38.0),
            (1, 12, false, 42.0),
            (1, 12, true, 42.0),
            (1, 16, false, 42.0),
            (1, 16, true, 42.0),
            (3, 8, false, 38.0),
        ] {
            let image = picture(256, 200, samples, precision, is_signed);
            let codestream = encode(&image, Loss::Bytes(tenth(&image))).unwrap();
            let quality = psnr(&image, &decode(&codestream, image.shape, 0).unwrap());
            let ratio = codestream.len() as f64 / tenth(&image) as f64;
            assert!(quality > least, "{precision} bits, {samples} samples: {quality} dB");
            assert!((0.9..=1.1).contains(&ratio), "{precision} bits, {samples} samples: {ratio}");
        }
    }

    #[test]
    fn a_prefix_is_the_frame_at_a_lower_resolution() {
        for (rows, columns, samples, precision, is_signed) in [
            (120, 100, 1, 12, true),
            (120, 100, 1, 9, false),
            (97, 131, 1, 16, true),
            (97, 131, 3, 8, false),
            (1, 77, 1, 12, false),
            (65, 33, 3, 8, false),
            (129, 255, 1, 8, false),
        ] {
            let image = picture(rows, columns, samples, precision, is_signed);
            for loss in [Loss::None, Loss::Bytes(tenth(&image)), Loss::FastBytes(tenth(&image))] {
                let case = format!("{rows} x {columns} x {samples}, {precision} bits, {loss:?}");
                let codestream = encode(&image, loss).unwrap();
                let parts = parts(&codestream).unwrap();
                assert_eq!(codestream[..2], [0xFF, 0x4F], "{case}");
                assert_eq!(codestream[parts.head_end..][..2], [0xFF, 0x90], "{case}");
                assert_eq!(codestream[*parts.resolution_ends.last().unwrap()..], END_OF_CODESTREAM, "{case}");
                let most = resolutions(image.shape);
                assert_eq!(parts.resolution_ends.len(), most as usize, "{case}");
                for (reduce, end) in (0..most).rev().zip(&parts.resolution_ends) {
                    let prefix = [&codestream[..*end], &END_OF_CODESTREAM].concat();
                    let whole = decode(&codestream, image.shape, reduce).unwrap();
                    assert_eq!(decode(&prefix, image.shape, reduce).unwrap(), whole, "{case}: {reduce}");
                    assert_eq!(whole.shape.rows, rows.div_ceil(1 << reduce), "{case}");
                    assert_eq!(whole.shape.columns, columns.div_ceil(1 << reduce), "{case}");
                }
            }
        }
    }

    #[test]
    fn a_missing_end_marker_is_forgiven() {
        let image = picture(32, 32, 1, 12, false);
        let codestream = encode(&image, Loss::None).unwrap();
        let open = &codestream[..codestream.len() - 2];
        assert_eq!(decode(open, image.shape, 0).unwrap(), image);
        assert_eq!(decode(&[&codestream[..], &[0]].concat(), image.shape, 0).unwrap(), image);
    }

    #[test]
    fn a_codestream_of_another_size_never_reaches_the_codec() {
        let image = picture(32, 32, 1, 12, false);
        let mut codestream = encode(&image, Loss::None).unwrap();
        let other = Shape { rows: 31, ..image.shape };
        assert!(matches!(decode(&codestream, other, 0), Err(Error::Mismatch { .. })));
        codestream[24..32].copy_from_slice(&[0, 0, 0, 1, 0, 0, 0, 1]);
        assert!(matches!(decode(&codestream, image.shape, 0), Err(Error::Unsupported(_))));
    }

    #[test]
    fn damage_is_an_error_or_a_picture_but_nothing_worse() {
        let image = picture(40, 40, 1, 12, false);
        let codestream = encode(&image, Loss::None).unwrap();
        for place in 0..codestream.len() {
            let mut damaged = codestream.clone();
            damaged[place] ^= 1 << (place % 8);
            let _ = decode(&damaged, image.shape, 0);
            let _ = decode(&codestream[..place], image.shape, 0);
        }
    }

    #[test]
    fn what_cannot_be_encoded_is_refused() {
        for (samples, precision, count) in [(2, 8, 2), (1, 17, 1), (1, 0, 1), (1, 8, 0)] {
            let shape = Shape { rows: 1, columns: 1, samples };
            let image = Image { shape, precision, is_signed: false, samples: vec![0; count] };
            assert!(encode(&image, Loss::None).is_err());
        }
    }
}
