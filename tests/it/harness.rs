//! A server in this process, and instances to store in it.

use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;

use cuspid::blobs::Blobs;
use cuspid::config::Config;
use cuspid::http::{self, Service};
use cuspid::jobs;
use cuspid::telemetry;
use reqwest::{Client, RequestBuilder, Response};
use serde_json::Value;
use tokio::net::TcpListener;
use tokio_util::sync::{CancellationToken, DropGuard};

use crate::build::DataSet;
use crate::engine::Engine;

/// Explicit VR Little Endian.
pub(crate) const EXPLICIT: &str = "1.2.840.10008.1.2.1";
/// JPEG-LS Lossless.
pub(crate) const JPEG_LS: &str = "1.2.840.10008.1.2.4.80";
/// CT Image Storage.
pub(crate) const CT: &str = "1.2.840.10008.5.1.4.1.1.2";

/// A running server; it stops when dropped.
pub(crate) struct Server {
    pub(crate) address: SocketAddr,
    /// Its data directory.
    pub(crate) blobs: Arc<dyn Blobs>,
    client: Client,
    pub(crate) engine: Engine,
    _stop: DropGuard,
}

impl Server {
    pub(crate) async fn start() -> Self {
        Self::with(|_| {}).await
    }

    /// Starts a server with settings other than the defaults.
    pub(crate) async fn with(change: impl FnOnce(&mut Config)) -> Self {
        let mut config = defaults();
        config.preview.enabled = false;
        change(&mut config);
        let engine = Engine::open(&config).await;
        let (archive, blobs) = (engine.archive.clone(), engine.blobs.clone());
        let stop = CancellationToken::new();
        let service = Service::new(archive.clone(), &config, telemetry::metrics()).unwrap();
        if config.preview.enabled && config.jobs.in_server {
            let (archive, config, stop) = (archive.clone(), config.clone(), stop.clone());
            tokio::spawn(async move { jobs::previews::run(archive, &config, stop).await });
        }
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        tokio::spawn(http::run((listener, None), None, service, stop.clone()));
        Self { address, blobs, client: Client::new(), engine, _stop: stop.drop_guard() }
    }

    /// A URL below the DICOMweb service.
    pub(crate) fn url(&self, path: &str) -> String {
        format!("http://{}/dicom-web{path}", self.address)
    }

    pub(crate) fn get(&self, path: &str) -> RequestBuilder {
        self.client.get(self.url(path))
    }

    pub(crate) fn post(&self, path: &str) -> RequestBuilder {
        self.client.post(self.url(path))
    }

    pub(crate) fn request(&self, method: &str, url: String) -> RequestBuilder {
        self.client.request(method.parse().unwrap(), url)
    }

    /// Stores instances in one request.
    pub(crate) async fn store(&self, instances: &[Vec<u8>]) -> Response {
        let request = self.post("/studies").header("Content-Type", STORE_TYPE);
        request.body(multipart(instances)).send().await.unwrap()
    }

    /// Gets JSON that must be there.
    pub(crate) async fn json(&self, path: &str) -> Value {
        let response = self.get(path).send().await.unwrap();
        assert_eq!(response.status(), 200, "{path}");
        serde_json::from_slice(&response.bytes().await.unwrap()).unwrap()
    }
}

/// The default settings, with the program whose command `decoder` decodes frames: this one has none.
pub(crate) fn defaults() -> Config {
    let mut config = Config::defaults();
    config.decoders.program = env!("CARGO_BIN_EXE_cuspid").into();
    config
}

/// Settings of a server on loopback with its data in a directory, which makes no previews.
pub(crate) fn embedded(data: &Path) -> Config {
    let mut config = defaults();
    config.storage.data = data.to_owned();
    config.http.listen = ([127, 0, 0, 1], 0).into();
    config.dimse.listen.clear();
    config.preview.enabled = false;
    config
}

/// The Content-Type that goes with [`multipart`].
pub(crate) const STORE_TYPE: &str = "multipart/related; type=\"application/dicom\"; boundary=B";

/// A body to store.
pub(crate) fn multipart(instances: &[Vec<u8>]) -> Vec<u8> {
    let mut body = Vec::new();
    for instance in instances {
        body.extend_from_slice(b"\r\n--B\r\nContent-Type: application/dicom\r\n\r\n");
        body.extend_from_slice(instance);
    }
    body.extend_from_slice(b"\r\n--B--");
    body
}

/// The data set of an instance without pixels.
pub(crate) fn data_set(study: &str, series: &str, instance: &str) -> DataSet {
    DataSet::explicit()
        .text(0x0008_0016, "UI", CT)
        .text(0x0008_0018, "UI", instance)
        .text(0x0008_0020, "DA", "20240229")
        .text(0x0008_0060, "CS", "CT")
        .text(0x0010_0010, "PN", "Doe^Jane")
        .text(0x0010_0020, "LO", "P1")
        .text(0x0020_000D, "UI", study)
        .text(0x0020_000E, "UI", series)
}

/// A file of 4 x 4 pixels of 16 bits in each of three frames: frame n holds bytes of value n only.
pub(crate) fn native(study: &str, series: &str, instance: &str) -> Vec<u8> {
    let pixels: Vec<u8> = (1..=3).flat_map(|frame| [frame; 32]).collect();
    image(study, series, instance).element(0x7FE0_0010, "OW", &pixels).file(EXPLICIT)
}

/// The same with frames declared as JPEG-LS: `frame 1`, `frame 2` in two fragments, and `frame 3`.
pub(crate) fn encapsulated(study: &str, series: &str, instance: &str) -> Vec<u8> {
    let mut table = Vec::new();
    for offset in [0_u32, 16, 40] {
        table.extend_from_slice(&offset.to_le_bytes());
    }
    let items: [&[u8]; 5] = [&table, b"frame 1.", b"fram", b"e 2.", b"frame 3."];
    image(study, series, instance).encapsulated(&items).file(JPEG_LS)
}

/// Two frames of 1 x 2 pixels in big endian: 1, 2 and 3, 4.
pub(crate) fn big_endian(study: &str, series: &str, instance: &str) -> Vec<u8> {
    let data_set = DataSet::big_endian()
        .text(0x0008_0016, "UI", CT)
        .text(0x0008_0018, "UI", instance)
        .text(0x0020_000D, "UI", study)
        .text(0x0020_000E, "UI", series)
        .us(0x0028_0002, &[1])
        .text(0x0028_0004, "CS", "MONOCHROME2")
        .text(0x0028_0008, "IS", "2")
        .us(0x0028_0010, &[1])
        .us(0x0028_0011, &[2])
        .us(0x0028_0100, &[16])
        .us(0x0028_0101, &[16])
        .us(0x0028_0102, &[15])
        .us(0x0028_0103, &[0]);
    data_set.element(0x7FE0_0010, "OW", &[0, 1, 0, 2, 0, 3, 0, 4]).file("1.2.840.10008.1.2.2")
}

fn image(study: &str, series: &str, instance: &str) -> DataSet {
    data_set(study, series, instance)
        .us(0x0028_0002, &[1])
        .text(0x0028_0004, "CS", "MONOCHROME2")
        .text(0x0028_0008, "IS", "3")
        .us(0x0028_0010, &[4])
        .us(0x0028_0011, &[4])
        .us(0x0028_0100, &[16])
        .us(0x0028_0101, &[16])
        .us(0x0028_0102, &[15])
        .us(0x0028_0103, &[0])
}

/// The parts of a multipart answer: header fields and bytes.
pub(crate) async fn parts(response: Response) -> Vec<(String, Vec<u8>)> {
    let content_type = response.headers()["content-type"].to_str().unwrap().to_owned();
    let (_, boundary) = content_type.split_once("boundary=").unwrap();
    let body = response.bytes().await.unwrap();
    let delimiter = format!("--{boundary}");
    let mut found = Vec::new();
    let mut rest = body.strip_prefix(delimiter.as_bytes()).unwrap();
    while let Some(part) = rest.strip_prefix(b"\r\n") {
        let end = position(part, format!("\r\n{delimiter}").as_bytes());
        let head = position(part, b"\r\n\r\n");
        found.push((String::from_utf8(part[..head].to_vec()).unwrap(), part[head + 4..end].to_vec()));
        rest = &part[end + 2 + delimiter.len()..];
    }
    assert_eq!(rest, b"--\r\n");
    found
}

fn position(bytes: &[u8], sought: &[u8]) -> usize {
    bytes.windows(sought.len()).position(|window| window == sought).unwrap()
}
