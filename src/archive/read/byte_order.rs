//! Values of objects in big endian, given in little endian.

use bytes::BytesMut;
use futures_util::{StreamExt, TryStreamExt, stream};

use crate::blobs;
use crate::blobs::ByteStream;

/// Bytes with the order within each word of `word` bytes reversed; a rest that is no whole word stays as it
/// is.
pub(in crate::archive) fn swapped(bytes: ByteStream, word: usize) -> ByteStream {
    if word <= 1 {
        return bytes;
    }
    let state = (bytes.fuse(), BytesMut::new());
    let words = stream::try_unfold(state, move |(mut bytes, mut rest)| async move {
        while let Some(chunk) = bytes.try_next().await? {
            rest.extend_from_slice(&chunk);
            let mut whole = rest.split_to(rest.len() / word * word);
            if !whole.is_empty() {
                whole.chunks_exact_mut(word).for_each(<[u8]>::reverse);
                return Ok(Some((whole.freeze(), (bytes, rest))));
            }
        }
        let rest = rest.freeze();
        Ok::<_, blobs::Error>((!rest.is_empty()).then(|| (rest, (bytes, BytesMut::new()))))
    });
    words.boxed()
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;

    use super::*;

    #[tokio::test]
    async fn words_are_swapped_across_chunks() {
        let chunks = [&[1, 2, 3][..], &[4], &[5, 6, 7]];
        let chunks = chunks.map(|chunk| Ok(Bytes::from_static(chunk)));
        let bytes: Vec<Bytes> = swapped(stream::iter(chunks).boxed(), 2).try_collect().await.unwrap();
        assert_eq!(bytes.concat(), [2, 1, 4, 3, 6, 5, 7]);
    }
}
