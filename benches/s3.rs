//! What the object store moves to and from an S3 server, beside a bare client of the SDK with the same
//! concurrency.
//!
//! `tools/cloud.py --only radosgw cargo bench --bench s3` prints a table: MB/s of both, medians of rounds
//! that take turns.

use std::io::Write;
use std::sync::Arc;
use std::time::Instant;

use anyhow::{Context, ensure};
use aws_sdk_s3::Client;
use aws_sdk_s3::config::{Builder, RequestChecksumCalculation, ResponseChecksumValidation};
use bytes::Bytes;
use cuspid::blobs::s3::S3Blobs;
use cuspid::blobs::{Blobs, Bucket, Key};
use cuspid::config::Config;
use futures_util::{StreamExt, TryStreamExt, stream};

const ROUNDS: usize = 5;

/// Objects of one size, and how many are on their way at a time.
struct Load {
    name: &'static str,
    object_bytes: usize,
    objects: usize,
    concurrency: usize,
}

const LOADS: [Load; 4] = [
    Load { name: "CT slices, 1 at a time", object_bytes: 525_000, objects: 100, concurrency: 1 },
    Load { name: "CT slices, 8 at a time", object_bytes: 525_000, objects: 400, concurrency: 8 },
    Load { name: "CT slices, 32 at a time", object_bytes: 525_000, objects: 400, concurrency: 32 },
    Load { name: "multi-frames of 64 MB, 2 at a time", object_bytes: 64_000_000, objects: 4, concurrency: 2 },
];

/// The two that are compared.
struct Bench {
    blobs: Arc<S3Blobs>,
    client: Client,
    bucket: String,
}

fn main() -> anyhow::Result<()> {
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    runtime.block_on(run())
}

async fn run() -> anyhow::Result<()> {
    let servers = std::env::var("CUSPID_TEST_S3").unwrap_or_default();
    let endpoint = servers.split_whitespace().find_map(|server| server.strip_prefix("radosgw="));
    let endpoint = endpoint.context("run this under tools/cloud.py: no radosgw= in CUSPID_TEST_S3")?;
    let bench = Bench::new(endpoint).await?;
    let mut out = std::io::stdout().lock();
    writeln!(
        out,
        "| load | bare put | put | of bare | bare get | get | of bare |\n|---|---|---|---|---|---|---|"
    )?;
    for load in LOADS {
        let [mut bare_put, mut put, mut bare_get, mut get] = [const { Vec::new() }; 4];
        for round in 0..ROUNDS {
            let name = format!("{}/{round}", load.object_bytes);
            bare_put
                .push(load.measure(|number| bench.bare_put(format!("bare/{name}/{number}"), &load)).await?);
            put.push(load.measure(|number| bench.put(format!("{name}/{number}"), &load)).await?);
            bare_get
                .push(load.measure(|number| bench.bare_get(format!("bare/{name}/{number}"), &load)).await?);
            get.push(load.measure(|number| bench.get(format!("{name}/{number}"), &load)).await?);
        }
        let [bare_put, put, bare_get, get] = [bare_put, put, bare_get, get].map(median);
        let (of_put, of_get) = (put / bare_put, get / bare_get);
        let name = load.name;
        writeln!(
            out,
            "| {name} | {bare_put:.0} | {put:.0} | {of_put:.2} | {bare_get:.0} | {get:.0} | {of_get:.2} |"
        )?;
    }
    Ok(())
}

impl Load {
    /// Does something with each object; MB/s.
    async fn measure<F: Future<Output = anyhow::Result<()>>>(
        &self,
        act: impl Fn(usize) -> F,
    ) -> anyhow::Result<f64> {
        let start = Instant::now();
        let acts = stream::iter(0..self.objects).map(|number| Ok(act(number)));
        acts.try_for_each_concurrent(self.concurrency, |act| act).await?;
        Ok((self.object_bytes * self.objects) as f64 / 1e6 / start.elapsed().as_secs_f64())
    }

    fn bytes(&self) -> Bytes {
        static BYTES: std::sync::OnceLock<Bytes> = std::sync::OnceLock::new();
        let largest = LOADS.iter().map(|load| load.object_bytes).max().unwrap_or_default();
        let all = BYTES
            .get_or_init(|| (0..largest).map(|at| (at.wrapping_mul(2_654_435_761) >> 13) as u8).collect());
        all.slice(..self.object_bytes)
    }
}

impl Bench {
    async fn new(endpoint: &str) -> anyhow::Result<Self> {
        let bucket = format!("bench-{}", std::process::id());
        let mut settings = Config::defaults().s3;
        settings.bucket = format!("{bucket}/{{class}}").try_into().map_err(anyhow::Error::msg)?;
        settings.endpoint = endpoint.to_owned();
        settings.path_style = true;
        let machine = aws_config::load_defaults(aws_config::BehaviorVersion::latest()).await;
        let builder = Builder::from(&machine).endpoint_url(endpoint).force_path_style(true);
        let builder = builder.request_checksum_calculation(RequestChecksumCalculation::WhenRequired);
        let builder = builder.response_checksum_validation(ResponseChecksumValidation::WhenRequired);
        let client = Client::from_conf(builder.build());
        client.create_bucket().bucket(&bucket).send().await?;
        let staging = std::env::temp_dir().join(&bucket);
        let blobs = Arc::new(S3Blobs::open(&settings, &staging).await?);
        Ok(Self { blobs, client, bucket })
    }

    async fn bare_put(&self, name: String, load: &Load) -> anyhow::Result<()> {
        let request = self.client.put_object().bucket(&self.bucket).key(name).body(load.bytes().into());
        request.send().await?;
        Ok(())
    }

    async fn bare_get(&self, name: String, load: &Load) -> anyhow::Result<()> {
        let mut body = self.client.get_object().bucket(&self.bucket).key(name).send().await?.body;
        let mut length = 0;
        while let Some(bytes) = body.try_next().await? {
            length += bytes.len();
        }
        ensure!(length == load.object_bytes);
        Ok(())
    }

    async fn put(&self, path: String, load: &Load) -> anyhow::Result<()> {
        let mut staged = self.blobs.stage().await?;
        let bytes = load.bytes();
        let staged = tokio::task::spawn_blocking(move || {
            // As an upload does, in batches.
            bytes.chunks(128 * 1024).try_for_each(|batch| staged.write(batch)).map(|()| staged)
        });
        let staged = staged.await??;
        Ok(self.blobs.put(staged, &Key { bucket: Bucket::Originals, path }).await?)
    }

    async fn get(&self, path: String, load: &Load) -> anyhow::Result<()> {
        let key = Key { bucket: Bucket::Originals, path };
        let mut bytes = self.blobs.read(&key, 0..load.object_bytes as u64).await?;
        let mut length = 0;
        while let Some(chunk) = bytes.try_next().await? {
            length += chunk.len();
        }
        ensure!(length == load.object_bytes);
        Ok(())
    }
}

fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    values[values.len() / 2]
}
