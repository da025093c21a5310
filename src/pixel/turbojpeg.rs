//! JPEG through libjpeg-turbo (ISO/IEC 10918-1; PS3.5 §8.2.1): baseline, extended, progressive and lossless.
//!
//! The size and precision that libjpeg-turbo finds in a frame are checked before libjpeg-turbo decodes it.
#![expect(unsafe_code, reason = "libjpeg-turbo is a C library; this is the only file that speaks to it")]

use std::ffi::{CStr, c_int, c_void};
use std::ptr::NonNull;

use turbojpeg_sys as tj;

use crate::pixel::jpeg_scans::MAX_SCANS;
use crate::pixel::{Error, Shape};

/// Memory that libjpeg-turbo may use besides the coefficients of a frame, in MiB.
const SPARE_MIB: usize = 64;
/// The most bytes of a coefficient or a difference of samples.
const COEFFICIENT_BYTES: usize = 4;

/// Part of the message when a frame needs more memory than it may use.
const OUT_OF_MEMORY: &str = "Backing store";
/// Parts of the messages of warnings that leave a frame usable: bytes between data and marker are skipped,
/// and sequential frames do not need the numbers that are wrong.
const HARMLESS: [&str; 2] = ["extraneous bytes", "Invalid SOS parameters"];
/// Part of the message when a marker comes before the end of a scan's data. The samples that are missing are
/// then zero in the transformed frame.
const ENDS_EARLY: &str = "premature end of data segment";

/// The type of libjpeg-turbo's functions that decode a frame.
type Decompress<T> = unsafe extern "C" fn(tj::tjhandle, *const u8, tj::size_t, *mut T, c_int, c_int) -> c_int;

/// Decodes a frame of 2 to 16 bits. Colours are converted if the markers of the frame say that they are
/// luminance and chrominance. If `may_end_early`, samples may be missing.
///
/// # Errors
/// [`Error::Mismatch`] if the frame is of another size or precision, [`Error::Unsupported`] for 2 components,
/// [`Error::Codec`] if the frame is damaged or needs too much memory.
pub(super) fn decode(
    frame: &[u8],
    expected: Shape,
    precision: u32,
    may_end_early: bool,
) -> Result<Vec<i32>, Error> {
    let count = expected.number_of_samples()?;
    let format = pixel_format(expected)?;
    let instance = Instance::new(may_end_early)?;
    let pixels = count / usize::from(expected.samples);
    let memory = SPARE_MIB + ((count * COEFFICIENT_BYTES) >> 20);
    instance.set(tj::TJPARAM_TJPARAM_MAXPIXELS, pixels as c_int)?;
    instance.set(tj::TJPARAM_TJPARAM_MAXMEMORY, memory as c_int)?;
    instance.set(tj::TJPARAM_TJPARAM_SCANLIMIT, MAX_SCANS as c_int)?;
    instance.set(tj::TJPARAM_TJPARAM_SAVEMARKERS, 0)?;
    instance.check_header(frame, expected, precision)?;
    // Damaged lossless frames can hold more bits than they say.
    let mask = (1 << precision.min(16)) - 1;
    // SAFETY: each function writes rows × columns × samples values of its type, as `check_header` has found
    // these numbers in the same frame, and as the pixel format has this number of samples.
    unsafe {
        match precision {
            0..=8 => instance.decompress::<u8>(frame, tj::tj3Decompress8, format, count, mask),
            9..=12 => instance.decompress::<i16>(frame, tj::tj3Decompress12, format, count, mask),
            _ => instance.decompress::<u16>(frame, tj::tj3Decompress16, format, count, mask),
        }
    }
}

/// The pixel format whose samples are the components of a frame.
fn pixel_format(shape: Shape) -> Result<c_int, Error> {
    match shape.samples {
        1 => Ok(tj::TJPF_TJPF_GRAY),
        3 => Ok(tj::TJPF_TJPF_RGB),
        4 => Ok(tj::TJPF_TJPF_CMYK),
        samples => Err(Error::Unsupported(format!("JPEG of {samples} samples"))),
    }
}

/// An instance of libjpeg-turbo.
struct Instance {
    handle: NonNull<c_void>,
    may_end_early: bool,
}

impl Instance {
    fn new(may_end_early: bool) -> Result<Self, Error> {
        // SAFETY: the function returns null or a handle that is ours to destroy.
        let handle = unsafe { tj::tj3Init(tj::TJINIT_TJINIT_DECOMPRESS as c_int) };
        let handle = NonNull::new(handle).ok_or_else(|| failed("Insufficient memory"))?;
        Ok(Self { handle, may_end_early })
    }

    fn set(&self, parameter: tj::TJPARAM, value: c_int) -> Result<(), Error> {
        // SAFETY: the handle is valid; the function checks parameter and value.
        let status = unsafe { tj::tj3Set(self.handle.as_ptr(), parameter as c_int, value) };
        if status == 0 { Ok(()) } else { Err(failed(&self.message())) }
    }

    fn get(&self, parameter: tj::TJPARAM) -> Option<u32> {
        // SAFETY: the handle is valid; the function checks the parameter.
        let value = unsafe { tj::tj3Get(self.handle.as_ptr(), parameter as c_int) };
        u32::try_from(value).ok()
    }

    /// Compares size, number of components and precision with what is expected.
    fn check_header(&self, frame: &[u8], expected: Shape, precision: u32) -> Result<(), Error> {
        // SAFETY: the handle is valid, and the function reads no byte beyond the frame.
        let status = unsafe {
            tj::tj3DecompressHeader(self.handle.as_ptr(), frame.as_ptr(), frame.len() as tj::size_t)
        };
        if status != 0 {
            self.accept_warning()?;
        }
        let [rows, columns, bits, colours] = [
            tj::TJPARAM_TJPARAM_JPEGHEIGHT,
            tj::TJPARAM_TJPARAM_JPEGWIDTH,
            tj::TJPARAM_TJPARAM_PRECISION,
            tj::TJPARAM_TJPARAM_COLORSPACE,
        ]
        .map(|parameter| self.get(parameter));
        let samples = match colours {
            Some(tj::TJCS_TJCS_GRAY) => 1,
            Some(tj::TJCS_TJCS_RGB | tj::TJCS_TJCS_YCbCr) => 3,
            Some(tj::TJCS_TJCS_CMYK | tj::TJCS_TJCS_YCCK) => 4,
            _ => 0,
        };
        let found = (rows, columns, bits, samples);
        if found == (Some(expected.rows), Some(expected.columns), Some(precision), expected.samples) {
            return Ok(());
        }
        let [rows, columns, bits] = [rows, columns, bits].map(Option::unwrap_or_default);
        let found = format!("{rows} x {columns} pixels of {samples} samples of {bits} bits");
        Err(Error::Mismatch { expected, found })
    }

    /// Decodes a frame by one of libjpeg-turbo's functions, and keeps the bits of `mask` of each sample.
    ///
    /// # Safety
    /// The function writes at most `count` values for this frame.
    unsafe fn decompress<T: Copy + Default + Into<i32>>(
        &self,
        frame: &[u8],
        decompress: Decompress<T>,
        format: c_int,
        count: usize,
        mask: i32,
    ) -> Result<Vec<i32>, Error> {
        let mut samples = vec![T::default(); count];
        // SAFETY: the handle is valid, the function reads no byte beyond the frame, and the values have room,
        // by this function's own condition.
        let status = unsafe {
            decompress(
                self.handle.as_ptr(),
                frame.as_ptr(),
                frame.len() as tj::size_t,
                samples.as_mut_ptr(),
                0,
                format,
            )
        };
        if status != 0 {
            self.accept_warning()?;
        }
        Ok(samples.into_iter().map(|sample| sample.into() & mask).collect())
    }

    /// Returns an error unless the last call ended with a warning that leaves the frame usable.
    fn accept_warning(&self) -> Result<(), Error> {
        // SAFETY: the handle is valid.
        let code = unsafe { tj::tj3GetErrorCode(self.handle.as_ptr()) };
        let is_warning = code == tj::TJERR_TJERR_WARNING as c_int;
        let message = self.message();
        let is_usable = HARMLESS.iter().any(|harmless| message.contains(harmless))
            || (self.may_end_early && message.contains(ENDS_EARLY));
        if is_warning && is_usable { Ok(()) } else { Err(failed(&message)) }
    }

    /// The message of the last error or warning.
    fn message(&self) -> String {
        // SAFETY: the handle is valid; the function returns a string that ends with NUL and lives until the
        // next call.
        let message = unsafe { CStr::from_ptr(tj::tj3GetErrorStr(self.handle.as_ptr())) };
        message.to_string_lossy().into_owned()
    }
}

impl Drop for Instance {
    fn drop(&mut self) {
        // SAFETY: the handle is valid, and used no more.
        unsafe { tj::tj3Destroy(self.handle.as_ptr()) }
    }
}

fn failed(message: &str) -> Error {
    let reason = if message.contains(OUT_OF_MEMORY) { "Insufficient memory" } else { message };
    Error::Codec { codec: "JPEG", reason: reason.into() }
}
