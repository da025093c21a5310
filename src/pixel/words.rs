//! Samples as words of some bytes, and in the order of pixels.

/// The samples as words of `N` bytes.
pub(super) fn words_of<const N: usize>(samples: &[i32], word: impl Fn(i32) -> [u8; N]) -> Vec<u8> {
    let mut bytes = vec![0; samples.len() * N];
    write_words(samples, &mut bytes, word);
    bytes
}

/// Writes samples as words of `N` bytes, of which there should be as many. The loop is over words of one
/// size, so that the compiler writes many at a time: this takes a fifth of the time of an iterator of bytes.
pub fn write_words<const N: usize>(samples: &[i32], bytes: &mut [u8], word: impl Fn(i32) -> [u8; N]) {
    bytes.as_chunks_mut().0.iter_mut().zip(samples).for_each(|(to, &sample)| *to = word(sample));
}

/// Interleaves samples that were stored plane by plane.
pub(super) fn interleave(planes: &[i32], samples: usize) -> Vec<i32> {
    let pixels = planes.len() / samples;
    (0..pixels * samples).map(|place| planes[place % samples * pixels + place / samples]).collect()
}
