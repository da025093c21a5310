//! Tests of the contract of [`Blobs`], which each backend runs.

use std::ops::Range;

use bytes::Bytes;
use futures_util::{StreamExt, TryStreamExt, stream};

use crate::blobs::{Blobs, Bucket, CHUNK_BYTES, Error, Key};

/// Runs the suite on an empty store.
pub(super) async fn check(blobs: &dyn Blobs) {
    ranges_are_exact(blobs).await;
    missing_objects_are_not_found(blobs).await;
    a_replaced_object_is_never_mixed(blobs).await;
    deleting_is_idempotent(blobs).await;
    listing_goes_by_prefix(blobs).await;
    dropped_staged_objects_leave_nothing(blobs).await;
    staged_bytes_can_be_overwritten(blobs).await;
    many_puts_may_run_at_once(blobs).await;
    puts_and_deletions_of_neighbours_do_not_clash(blobs).await;
    a_large_object_is_read_in_small_chunks(blobs).await;
}

pub(super) fn key(path: &str) -> Key {
    Key { bucket: Bucket::Originals, path: path.into() }
}

pub(super) async fn put(blobs: &dyn Blobs, key: &Key, bytes: &[u8]) {
    let mut staged = blobs.stage().await.unwrap();
    staged.write(bytes).unwrap();
    assert_eq!(staged.length(), bytes.len() as u64);
    blobs.put(staged, key).await.unwrap();
}

pub(super) async fn chunks(blobs: &dyn Blobs, key: &Key, range: Range<u64>) -> Result<Vec<Bytes>, Error> {
    blobs.read(key, range).await?.try_collect().await
}

async fn content(blobs: &dyn Blobs, key: &Key) -> Vec<u8> {
    let size = blobs.size(key).await.unwrap().unwrap();
    chunks(blobs, key, 0..size).await.unwrap().concat()
}

async fn paths(blobs: &dyn Blobs, bucket: Bucket, prefix: &str) -> Vec<(String, u64)> {
    let entries: Vec<_> = blobs.list(bucket, prefix).try_collect().await.unwrap();
    let mut paths: Vec<_> = entries.into_iter().map(|entry| (entry.key.path, entry.size_bytes)).collect();
    paths.sort();
    paths
}

async fn ranges_are_exact(blobs: &dyn Blobs) {
    let key = key("ranges/one");
    let bytes: Vec<u8> = (0..3 * CHUNK_BYTES + 7).map(|at| (at % 251) as u8).collect();
    let end = bytes.len() as u64;
    put(blobs, &key, &bytes).await;
    assert_eq!(blobs.size(&key).await.unwrap(), Some(end));
    let chunk = CHUNK_BYTES as u64;
    for range in [0..end, 0..0, end..end, end - 1..end, 5..6, chunk - 1..chunk + 1, 1..2 * chunk + 1] {
        let read = chunks(blobs, &key, range.clone()).await.unwrap();
        assert!(read.iter().all(|chunk| !chunk.is_empty() && chunk.len() <= CHUNK_BYTES), "{range:?}");
        assert!(read.concat() == bytes[range.start as usize..range.end as usize], "{range:?}");
    }
    #[expect(clippy::reversed_empty_ranges, reason = "a reversed range must be refused")]
    for range in [0..end + 1, end..end + 1, end + 1..end + 1, 5..4, 0..u64::MAX] {
        let outcome = blobs.read(&key, range.clone()).await.err();
        assert!(matches!(outcome, Some(Error::OutOfRange { .. })), "{range:?}");
    }
    let empty = self::key("ranges/empty");
    put(blobs, &empty, b"").await;
    assert_eq!(blobs.size(&empty).await.unwrap(), Some(0));
    assert!(chunks(blobs, &empty, 0..0).await.unwrap().is_empty());
}

async fn missing_objects_are_not_found(blobs: &dyn Blobs) {
    put(blobs, &key("missing/directory/object"), b"x").await;
    for path in ["missing/none", "missing/directory", "missing/directory/object/below"] {
        let key = key(path);
        assert!(matches!(blobs.read(&key, 0..0).await.err(), Some(Error::NotFound(_))), "{path}");
        assert_eq!(blobs.size(&key).await.unwrap(), None, "{path}");
    }
    let elsewhere = Key { bucket: Bucket::Previews, path: "missing/directory/object".into() };
    assert_eq!(blobs.size(&elsewhere).await.unwrap(), None);
}

/// Readers see one of the objects whole; a reader that has begun goes on in its object or fails.
async fn a_replaced_object_is_never_mixed(blobs: &dyn Blobs) {
    let key = &Key { bucket: Bucket::Previews, path: "replaced".into() };
    let size = CHUNK_BYTES + 1000;
    put(blobs, key, &vec![0; size]).await;
    let replace = async {
        for round in 1..=20 {
            put(blobs, key, &vec![round; size]).await;
        }
    };
    let read = async {
        let mut seen = 0;
        for _ in 0..200 {
            let bytes = content(blobs, key).await;
            assert_eq!(bytes.len(), size);
            assert!(bytes.iter().all(|byte| *byte == bytes[0]), "a mixture");
            assert!(bytes[0] >= seen, "an older object after a newer one");
            seen = bytes[0];
            tokio::task::yield_now().await;
        }
    };
    tokio::join!(replace, read);
    assert!(content(blobs, key).await == vec![20; size]);

    let mut old = blobs.read(key, 0..size as u64).await.unwrap();
    put(blobs, key, &vec![21; size]).await;
    while let Ok(Some(chunk)) = old.try_next().await {
        assert!(chunk.iter().all(|byte| *byte == 20));
    }
}

async fn deleting_is_idempotent(blobs: &dyn Blobs) {
    let key = key("deleted/a/b/object");
    let neighbour = self::key("deleted/a/neighbour");
    put(blobs, &neighbour, b"stays").await;
    put(blobs, &key, b"goes").await;
    for _ in 0..2 {
        blobs.delete(&key).await.unwrap();
        assert_eq!(blobs.size(&key).await.unwrap(), None);
    }
    blobs.delete(&self::key("deleted/a")).await.unwrap_or(());
    blobs.delete(&self::key("deleted/never/was")).await.unwrap();
    blobs.flush().await.unwrap();
    assert_eq!(content(blobs, &neighbour).await, b"stays");
    put(blobs, &key, b"is back").await;
    assert_eq!(content(blobs, &key).await, b"is back");
}

async fn listing_goes_by_prefix(blobs: &dyn Blobs) {
    let all = ["listed/a/1", "listed/a/2", "listed/ab/1", "listed/b"];
    for (size, path) in all.iter().enumerate() {
        put(blobs, &key(path), &vec![0; size]).await;
    }
    for (prefix, expected) in [
        ("listed/", &all[..]),
        ("listed", &all),
        ("listed/a", &all[..3]),
        ("listed/a/", &all[..2]),
        ("listed/a/2", &all[1..2]),
        ("listed/b", &all[3..]),
        ("listed/b/", &[]),
        ("listed/c", &[]),
        ("nothing/at/all", &[]),
    ] {
        let found = paths(blobs, Bucket::Originals, prefix).await;
        let names: Vec<_> = found.iter().map(|(path, _)| path.as_str()).collect();
        assert_eq!(names, expected, "{prefix}");
        assert!(found.iter().all(|(path, size)| all[*size as usize] == path), "{prefix}");
    }
    assert!(paths(blobs, Bucket::Thumbnails, "").await.is_empty());
    // More than a page of S3.
    let many = stream::iter(0..1100).for_each_concurrent(32, |number| async move {
        let path = format!("many/{}/{number}", number % 7);
        put(blobs, &Key { bucket: Bucket::Temporary, path }, b"").await;
    });
    many.await;
    assert_eq!(paths(blobs, Bucket::Temporary, "").await.len(), 1100);
}

async fn dropped_staged_objects_leave_nothing(blobs: &dyn Blobs) {
    let before = paths(blobs, Bucket::Originals, "").await;
    let mut staged = blobs.stage().await.unwrap();
    staged.write(&[1; 100_000]).unwrap();
    assert_eq!(paths(blobs, Bucket::Originals, "").await, before, "staged objects are not listed");
    drop(staged);
    assert_eq!(paths(blobs, Bucket::Originals, "").await, before);
}

async fn staged_bytes_can_be_overwritten(blobs: &dyn Blobs) {
    let mut staged = blobs.stage().await.unwrap();
    staged.write(b"abcd").unwrap();
    staged.overwrite(1, b"XY").unwrap();
    staged.write(b"e").unwrap();
    assert!(staged.overwrite(4, b"fg").is_err());
    assert!(staged.overwrite(u64::MAX, b"f").is_err());
    assert_eq!(staged.length(), 5);
    blobs.put(staged, &key("overwritten")).await.unwrap();
    assert_eq!(content(blobs, &key("overwritten")).await, b"aXYde");
}

async fn many_puts_may_run_at_once(blobs: &dyn Blobs) {
    let keys: Vec<_> = (0..200).map(|number| key(&format!("many/{}/{number}", number % 20))).collect();
    let puts = keys.iter().map(|key| async move {
        put(blobs, key, key.path.as_bytes()).await;
        assert_eq!(content(blobs, key).await, key.path.as_bytes(), "read as soon as the put returns");
    });
    futures_util::future::join_all(puts).await;
    for key in &keys {
        assert_eq!(content(blobs, key).await, key.path.as_bytes());
    }
}

async fn puts_and_deletions_of_neighbours_do_not_clash(blobs: &dyn Blobs) {
    let work = (0..8).map(|number| async move {
        let key = key(&format!("neighbours/of/{number}"));
        for _ in 0..20 {
            put(blobs, &key, b"x").await;
            assert_eq!(blobs.size(&key).await.unwrap(), Some(1));
            blobs.delete(&key).await.unwrap();
        }
    });
    futures_util::future::join_all(work).await;
    assert!(paths(blobs, Bucket::Originals, "neighbours").await.is_empty());
}

async fn a_large_object_is_read_in_small_chunks(blobs: &dyn Blobs) {
    const MIB: usize = 1024 * 1024;
    let key = key("large");
    let mut staged = blobs.stage().await.unwrap();
    for number in 0..64 {
        staged.write(&vec![number; MIB]).unwrap();
    }
    blobs.put(staged, &key).await.unwrap();
    let mut stream = blobs.read(&key, 0..64 * MIB as u64).await.unwrap();
    let mut read = 0;
    while let Some(chunk) = stream.try_next().await.unwrap() {
        assert!(chunk.len() <= CHUNK_BYTES);
        for byte in chunk.iter().step_by(997) {
            assert!(usize::from(*byte).abs_diff(read / MIB) <= 1);
        }
        read += chunk.len();
    }
    assert_eq!(read, 64 * MIB);
}
