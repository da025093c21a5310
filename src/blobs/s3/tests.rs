//! Tests of the store with real S3 servers, and with broken connections.

use aws_sdk_s3::Client;
use aws_sdk_s3::config::{Credentials, SharedCredentialsProvider};
use futures_util::TryStreamExt;
use tempfile::TempDir;
use uuid::Uuid;

use super::*;
use crate::blobs::cached::CachedBlobs;
use crate::blobs::contract::{self, chunks, key, put};
use crate::blobs::s3::failure::causes;
use crate::blobs::s3::proxy::{Proxy, ProxyFault};
use crate::config::{Checksum, Config};

const MIB: usize = 1024 * 1024;

/// An S3 server that tests may use.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum S3Server {
    /// Ceph's, which checks signatures and encrypts.
    Radosgw,
    /// moto's, which implements most of Amazon's API.
    Moto,
}

impl S3Server {
    const ALL: [Self; 2] = [Self::Radosgw, Self::Moto];

    fn endpoint(self) -> String {
        let name = if self == Self::Radosgw { "radosgw=" } else { "moto=" };
        let servers = std::env::var("CUSPID_TEST_S3").unwrap_or_default();
        let endpoint = servers.split_whitespace().find_map(|server| server.strip_prefix(name));
        endpoint
            .unwrap_or_else(|| panic!("run this under tools/cloud.py: no {name} in CUSPID_TEST_S3"))
            .to_owned()
    }
}

/// A store in a bucket of its own, with a client beside it.
struct S3Bench {
    blobs: S3Blobs,
    bucket: String,
    client: Client,
    _directory: TempDir,
}

impl S3Bench {
    async fn new(server: S3Server) -> Self {
        Self::with(server, |_| {}).await
    }

    async fn with(server: S3Server, change: impl FnOnce(&mut config::S3Settings)) -> Self {
        let (mut settings, client, bucket) = bucket(server).await;
        change(&mut settings);
        let directory = tempfile::tempdir().unwrap();
        let blobs = S3Blobs::open(&settings, directory.path()).await.unwrap();
        Self { blobs, bucket, client, _directory: directory }
    }

    /// The number of unfinished multipart uploads.
    async fn uploads(&self) -> usize {
        let uploads = self.client.list_multipart_uploads().bucket(&self.bucket).send().await.unwrap();
        uploads.uploads().len()
    }

    /// The files of staged objects.
    fn staged_files(&self) -> Vec<std::path::PathBuf> {
        let files = std::fs::read_dir(self.blobs.staging.path()).unwrap();
        files.map(|file| file.unwrap().path()).collect()
    }
}

/// A store on radosgw with a proxy in between, which injects no fault yet.
async fn behind(
    fault: ProxyFault,
    change: impl FnOnce(&mut config::S3Settings),
) -> (S3Blobs, Proxy, TempDir) {
    let (mut settings, ..) = bucket(S3Server::Radosgw).await;
    let proxy = Proxy::start(&settings.endpoint, fault).await;
    settings.endpoint = proxy.endpoint.clone();
    settings.part_bytes = 5 * MIB as u64;
    change(&mut settings);
    let directory = tempfile::tempdir().unwrap();
    let blobs = S3Blobs::open(&settings, directory.path()).await.unwrap();
    (blobs, proxy, directory)
}

/// Creates a bucket, and returns the settings for it.
async fn bucket(server: S3Server) -> (config::S3Settings, Client, String) {
    let bucket = format!("test-{}", Uuid::new_v4());
    let mut settings = Config::defaults().s3;
    settings.bucket = format!("{bucket}/some/{{class}}").try_into().unwrap();
    settings.endpoint = server.endpoint();
    settings.path_style = true;
    let client = Requests::new(&settings, &client::sdk_config(&settings).await).unwrap().client;
    client.create_bucket().bucket(&bucket).send().await.unwrap();
    (settings, client, bucket)
}

fn pattern(length: usize) -> Vec<u8> {
    (0..length).map(|at| (at % 251) as u8 ^ (at / 65_536) as u8).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn the_contract_holds_on_radosgw() {
    contract::check(&S3Bench::new(S3Server::Radosgw).await.blobs).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_contract_holds_on_moto() {
    contract::check(&S3Bench::new(S3Server::Moto).await.blobs).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_contract_holds_through_the_cache_on_radosgw() {
    let bench = S3Bench::new(S3Server::Radosgw).await;
    let directory = tempfile::tempdir().unwrap();
    let cached = CachedBlobs::open(Arc::new(bench.blobs), directory.path(), 1 << 30).unwrap();
    contract::check(&cached).await;
}

#[tokio::test]
async fn each_class_may_have_a_bucket_of_its_own() {
    let (mut settings, client, bucket) = bucket(S3Server::Radosgw).await;
    settings.bucket = format!("{bucket}-{{class}}").try_into().unwrap();
    let directory = tempfile::tempdir().unwrap();
    let error = S3Blobs::open(&settings, directory.path()).await.err().unwrap();
    assert!(causes(&error).contains("there is no such bucket (s3.bucket)"), "{}", causes(&error));
    for class in Bucket::ALL {
        client.create_bucket().bucket(format!("{bucket}-{}", class.name())).send().await.unwrap();
    }
    let blobs = S3Blobs::open(&settings, directory.path()).await.unwrap();
    let key = Key { bucket: Bucket::Thumbnails, path: "a/b".into() };
    put(&blobs, &key, b"x").await;
    let found = client.head_object().bucket(format!("{bucket}-thumbnails")).key("a/b").send().await;
    assert_eq!(found.unwrap().content_length(), Some(1));
}

#[tokio::test]
async fn a_large_object_is_sent_in_parts_with_checksums() {
    for server in S3Server::ALL {
        for checksum in [Checksum::Crc32, Checksum::Sha256] {
            let bench = S3Bench::with(server, |settings| {
                settings.part_bytes = 5 * MIB as u64;
                settings.checksum = checksum;
            })
            .await;
            let bytes = pattern(12 * MIB + 17);
            for (path, bytes) in
                [("large", &bytes[..]), ("spooled", &bytes[..2 * MIB]), ("small", &bytes[..100])]
            {
                put(&bench.blobs, &key(path), bytes).await;
                let read = chunks(&bench.blobs, &key(path), 0..bytes.len() as u64).await.unwrap().concat();
                assert!(read == bytes, "{server:?} {path}");
            }
            assert_eq!(bench.uploads().await, 0);
            assert!(bench.staged_files().is_empty());
        }
    }
}

#[tokio::test]
async fn bytes_that_were_damaged_in_transit_are_refused() {
    let (blobs, proxy, _directory) =
        behind(ProxyFault::DamageRequests, |settings| settings.max_attempts = 2).await;
    proxy.arm(usize::MAX);
    let mut staged = blobs.stage().await.unwrap();
    staged.write(&pattern(300_000)).unwrap();
    blobs.put(staged, &key("damaged")).await.unwrap_err();
    proxy.arm(0);
    assert_eq!(blobs.size(&key("damaged")).await.unwrap(), None);
}

#[tokio::test]
async fn an_upload_in_parts_that_fails_is_aborted() {
    for server in S3Server::ALL {
        let bench = S3Bench::with(server, |settings| settings.part_bytes = 5 * MIB as u64).await;
        let mut staged = bench.blobs.stage().await.unwrap();
        staged.write(&pattern(11 * MIB)).unwrap();
        let [file] = &bench.staged_files()[..] else { panic!("the object is in a file") };
        std::fs::OpenOptions::new().write(true).open(file).unwrap().set_len(6 * MIB as u64).unwrap();
        let error = bench.blobs.put(staged, &key("failed")).await.unwrap_err();
        assert!(causes(&error).contains("read what was staged"), "{}", causes(&error));
        assert_eq!(bench.uploads().await, 0, "{server:?}");
        assert_eq!(bench.blobs.size(&key("failed")).await.unwrap(), None);
    }
}

#[tokio::test]
async fn an_upload_in_parts_whose_future_is_dropped_is_aborted() {
    let (mut settings, client, bucket) = bucket(S3Server::Radosgw).await;
    let proxy = Proxy::start(&settings.endpoint, ProxyFault::StallParts).await;
    settings.endpoint = proxy.endpoint.clone();
    settings.part_bytes = 5 * MIB as u64;
    let directory = tempfile::tempdir().unwrap();
    let blobs = S3Blobs::open(&settings, directory.path()).await.unwrap();
    proxy.arm(usize::MAX);
    let mut staged = blobs.stage().await.unwrap();
    staged.write(&pattern(11 * MIB)).unwrap();
    let uploads =
        async || client.list_multipart_uploads().bucket(&bucket).send().await.unwrap().uploads().len();
    let key = key("abandoned");
    {
        let put = blobs.put(staged, &key);
        tokio::select! {
            _ = put => panic!("its parts were stalled"),
            () = proxy.happened() => {}
        }
    }
    proxy.arm(0);
    while uploads().await > 0 {
        tokio::task::yield_now().await;
    }
    assert_eq!(blobs.size(&key).await.unwrap(), None);
}

#[tokio::test]
async fn an_original_is_never_replaced() {
    for server in S3Server::ALL {
        let bench = S3Bench::new(server).await;
        assert!(bench.blobs.store.is_conditional, "{server:?}");
        put(&bench.blobs, &key("original"), b"first").await;
        // The same object again: the answer to the first put may have been lost.
        put(&bench.blobs, &key("original"), b"again").await;
        assert_eq!(chunks(&bench.blobs, &key("original"), 0..5).await.unwrap().concat(), b"first");
        let mut other = bench.blobs.stage().await.unwrap();
        other.write(b"of another size").unwrap();
        let error = bench.blobs.put(other, &key("original")).await.unwrap_err();
        assert!(causes(&error).contains("there is another object"), "{}", causes(&error));
        let derived = Key { bucket: Bucket::Previews, path: "derived".into() };
        put(&bench.blobs, &derived, b"first").await;
        put(&bench.blobs, &derived, b"second").await;
        assert_eq!(chunks(&bench.blobs, &derived, 0..6).await.unwrap().concat(), b"second");
    }
}

#[tokio::test]
async fn a_request_whose_answer_is_lost_is_sent_again() {
    let length = 11 * MIB;
    // A put; a part; the end of a multipart upload, of which the retry finds the object.
    for (of, length) in [("PUT", 100_000), ("partNumber=2", length), ("POST", length), ("?uploadId", length)]
    {
        let (blobs, proxy, _directory) = behind(ProxyFault::LoseAnswers(of), |_| {}).await;
        proxy.arm(1);
        put(&blobs, &key("lost"), &pattern(length)).await;
        assert_eq!(proxy.faults(), 1, "{of}");
        let read = chunks(&blobs, &key("lost"), 0..length as u64).await.unwrap().concat();
        assert!(read == pattern(length), "{of}");
    }
}

const SLOW_DOWN: &str = "HTTP/1.1 503 Slow Down\r\nContent-Type: application/xml\r\nConnection: close\r\nContent-Length: 40\r\n\r\n\
    <Error><Code>SlowDown</Code></Error>    ";
const FULL: &str = "HTTP/1.1 403 Forbidden\r\nContent-Type: application/xml\r\nConnection: close\r\nContent-Length: 45\r\n\r\n\
    <Error><Code>QuotaExceeded</Code></Error>    ";

#[tokio::test]
async fn a_throttled_request_is_retried_a_limited_number_of_times() {
    let (blobs, proxy, _directory) = behind(ProxyFault::Answer(SLOW_DOWN), |_| {}).await;
    proxy.arm(3);
    put(&blobs, &key("slow"), b"x").await;
    assert_eq!(proxy.faults(), 3);
    proxy.arm(2);
    assert_eq!(chunks(&blobs, &key("slow"), 0..1).await.unwrap().concat(), b"x");
    proxy.arm(usize::MAX);
    let before = proxy.requests();
    let error = blobs.size(&key("slow")).await.unwrap_err();
    assert!(causes(&error).contains("find originals/slow"), "{}", causes(&error));
    assert_eq!(proxy.requests() - before, 4);
}

#[tokio::test]
async fn a_full_store_is_an_error_at_once() {
    let (blobs, proxy, _directory) = behind(ProxyFault::Answer(FULL), |_| {}).await;
    proxy.arm(usize::MAX);
    let mut staged = blobs.stage().await.unwrap();
    staged.write(b"x").unwrap();
    let error = blobs.put(staged, &key("full")).await.unwrap_err();
    assert!(matches!(error, Error::NoSpace { .. }), "{error:?}");
    assert_eq!(proxy.faults(), 1);
}

#[tokio::test]
async fn an_answer_that_stalls_is_resumed() {
    let (blobs, proxy, _directory) =
        behind(ProxyFault::StallAnswers(400_000), |settings| settings.read_timeout_seconds = 1).await;
    put(&blobs, &key("stalled"), &pattern(MIB)).await;
    proxy.arm(1);
    let read = chunks(&blobs, &key("stalled"), 0..MIB as u64).await.unwrap().concat();
    assert!(read == pattern(MIB) && proxy.faults() == 1);
}

#[tokio::test]
async fn an_answer_that_is_cut_off_is_resumed() {
    for server in S3Server::ALL {
        let (mut settings, ..) = bucket(server).await;
        let proxy = Proxy::start(&settings.endpoint, ProxyFault::CutAnswers(400_000)).await;
        settings.endpoint = proxy.endpoint.clone();
        let directory = tempfile::tempdir().unwrap();
        let blobs = S3Blobs::open(&settings, directory.path()).await.unwrap();
        let bytes = pattern(3 * MIB);
        put(&blobs, &key("cut"), &bytes).await;
        proxy.arm(3);
        let read = chunks(&blobs, &key("cut"), 1000..2_000_000).await.unwrap().concat();
        assert!(read == bytes[1000..2_000_000], "{server:?}");
        assert_eq!(proxy.faults(), 3);
    }
}

#[tokio::test]
async fn a_read_of_a_replaced_object_is_not_resumed() {
    let (blobs, proxy, _directory) = behind(ProxyFault::CutAnswers(400_000), |_| {}).await;
    let key = Key { bucket: Bucket::Previews, path: "replaced".into() };
    put(&blobs, &key, &vec![0; 8 * MIB]).await;
    proxy.arm(1);
    let mut old = blobs.read(&key, 0..8 * MIB as u64).await.unwrap();
    old.try_next().await.unwrap().unwrap();
    put(&blobs, &key, &vec![1; 8 * MIB]).await;
    let error = loop {
        match old.try_next().await {
            Ok(chunk) => assert!(chunk.unwrap().iter().all(|byte| *byte == 0)),
            Err(error) => break error,
        }
    };
    assert!(causes(&error).contains("another object than before"), "{}", causes(&error));
}

#[tokio::test]
async fn a_frame_costs_one_request() {
    let (blobs, proxy, _directory) = behind(ProxyFault::None, |_| {}).await;
    put(&blobs, &key("frames"), &pattern(2 * MIB)).await;
    let before = proxy.requests();
    chunks(&blobs, &key("frames"), 500_000..1_000_000).await.unwrap();
    assert_eq!(proxy.requests() - before, 1);
    let end = 2 * MIB as u64;
    for range in [end - 1..end + 1, end..end + 1, 0..end + 1] {
        let before = proxy.requests();
        let outcome = blobs.read(&key("frames"), range.clone()).await.err();
        assert!(matches!(outcome, Some(Error::OutOfRange { .. })), "{range:?}");
        assert_eq!(proxy.requests() - before, 1, "{range:?}");
    }
}

#[tokio::test]
async fn objects_are_encrypted_as_the_settings_say() {
    for (encryption, kms_key, expected) in
        [(Encryption::Kms, "testkey-1", Some(ServerSideEncryption::AwsKms)), (Encryption::Bucket, "", None)]
    {
        let bench = S3Bench::with(S3Server::Radosgw, |settings| {
            settings.encryption = encryption;
            settings.kms_key = kms_key.into();
            settings.part_bytes = 5 * MIB as u64;
        })
        .await;
        let bytes = pattern(6 * MIB);
        for (path, bytes) in [("small", &bytes[..1000]), ("large", &bytes[..])] {
            put(&bench.blobs, &key(path), bytes).await;
            let name = format!("some/originals/{path}");
            let head = bench.client.head_object().bucket(&bench.bucket).key(name).send().await.unwrap();
            assert_eq!(head.server_side_encryption(), expected.as_ref(), "{path}");
            let range = 10..bytes.len() as u64;
            assert!(chunks(&bench.blobs, &key(path), range).await.unwrap().concat() == bytes[10..]);
        }
    }
}

#[tokio::test]
async fn each_class_has_its_storage_class() {
    let bench = S3Bench::with(S3Server::Moto, |settings| {
        settings.storage_classes = vec!["originals=STANDARD_IA".to_owned()].try_into().unwrap();
        settings.encryption = Encryption::S3;
    })
    .await;
    put(&bench.blobs, &key("a"), b"x").await;
    let head = bench.client.head_object().bucket(&bench.bucket).key("some/originals/a").send().await.unwrap();
    assert_eq!(head.storage_class().map(|class| class.as_str()), Some("STANDARD_IA"));
    assert_eq!(head.server_side_encryption(), Some(&ServerSideEncryption::Aes256));
}

#[tokio::test]
async fn a_start_that_fails_names_the_setting() {
    let (settings, ..) = bucket(S3Server::Radosgw).await;
    let directory = tempfile::tempdir().unwrap();
    let fails = async |change: &dyn Fn(&mut config::S3Settings), reason: &str| {
        let mut settings = settings.clone();
        settings.max_attempts = 1;
        change(&mut settings);
        let error = S3Blobs::open(&settings, directory.path()).await.err().unwrap();
        assert!(causes(&error).contains(reason), "{}", causes(&error));
    };
    fails(&|s3| s3.bucket = "no-such/{class}".to_owned().try_into().unwrap(), "`no-such`").await;
    fails(&|s3| s3.bucket = "no-such/{class}".to_owned().try_into().unwrap(), "(s3.bucket)").await;
    let wrong = Credentials::new(std::env::var("AWS_ACCESS_KEY_ID").unwrap(), "wrong", None, None, "test");
    let sdk_config = client::sdk_config(&settings).await.into_builder();
    let sdk_config = sdk_config.credentials_provider(SharedCredentialsProvider::new(wrong)).build();
    let error = open::open(&settings, &sdk_config).await.err().unwrap();
    assert!(causes(&error).contains("the credentials are wrong (AWS_ACCESS_KEY_ID"), "{}", causes(&error));
    let mut anonymous = sdk_config.clone().into_builder();
    anonymous.set_credentials_provider(None);
    let anonymous = anonymous.build();
    let error = open::open(&settings, &anonymous).await.err().unwrap();
    assert!(causes(&error).contains("no credentials were found"), "{}", causes(&error));
    let sdk_config = sdk_config.into_builder().region(None).build();
    let error = open::open(&settings, &sdk_config).await.err().unwrap();
    assert!(causes(&error).contains("set s3.region"), "{}", causes(&error));
    fails(&|s3| s3.endpoint = "http://127.0.0.1:1".into(), "s3.endpoint").await;
    fails(&|s3| s3.storage_classes = vec!["temporary=NONE".to_owned()].try_into().unwrap(), "[s3]").await;
}
