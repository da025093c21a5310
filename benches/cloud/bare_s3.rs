//! What a bare client moves to and from an S3 server: the limit of `benches/cloud/run.py`.
//!
//! Each command prints one line of JSON: seconds and bytes.

use std::env;
use std::fs;
use std::io::{Write, stderr, stdout};
use std::path::{Path, PathBuf};
use std::time::Instant;

use anyhow::Context;
use aws_config::{BehaviorVersion, Region};
use aws_sdk_s3::Client;
use aws_sdk_s3::config::{Builder, RequestChecksumCalculation, ResponseChecksumValidation};
use aws_sdk_s3::primitives::ByteStream;
use futures_util::{StreamExt, TryStreamExt, stream};

const USAGE: &str = "bare-s3 put|get ENDPOINT BUCKET CONCURRENCY DIRECTORY
put sends every file of the directory, get asks for an object of the name of each";

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let arguments: Vec<String> = env::args().skip(1).collect();
    let [command, endpoint, bucket, concurrency, directory] = &arguments[..] else {
        // Cargo's test runner starts examples without arguments.
        return Ok(writeln!(stderr(), "{USAGE}")?);
    };
    let concurrency = concurrency.parse().context("CONCURRENCY")?;
    let files = fs::read_dir(directory).context("DIRECTORY")?.map(|entry| Ok(entry?.path()));
    let files: Vec<PathBuf> = files.collect::<anyhow::Result<_>>()?;
    let client = connect(endpoint).await;
    let began = Instant::now();
    let moved = stream::iter(files).map(|file| {
        let (client, bucket) = (client.clone(), bucket.clone());
        async move {
            match command.as_str() {
                "put" => put(&client, &bucket, file).await,
                _ => get(&client, &bucket, file).await,
            }
        }
    });
    let moved: Vec<u64> = moved.buffer_unordered(concurrency).try_collect().await?;
    let (seconds, bytes) = (began.elapsed().as_secs_f64(), moved.iter().sum::<u64>());
    Ok(writeln!(stdout(), "{{\"seconds\": {seconds}, \"bytes\": {bytes}}}")?)
}

async fn connect(endpoint: &str) -> Client {
    let machine = aws_config::defaults(BehaviorVersion::latest()).region(Region::new("us-east-1"));
    let machine = machine.endpoint_url(endpoint).load().await;
    // As servers that are not Amazon's need it.
    let config = Builder::from(&machine)
        .force_path_style(true)
        .request_checksum_calculation(RequestChecksumCalculation::WhenRequired)
        .response_checksum_validation(ResponseChecksumValidation::WhenRequired);
    Client::from_conf(config.build())
}

async fn put(client: &Client, bucket: &str, file: PathBuf) -> anyhow::Result<u64> {
    let bytes = fs::read(&file)?;
    let size = bytes.len() as u64;
    client.put_object().bucket(bucket).key(name(&file)?).body(ByteStream::from(bytes)).send().await?;
    Ok(size)
}

async fn get(client: &Client, bucket: &str, file: PathBuf) -> anyhow::Result<u64> {
    let mut body = client.get_object().bucket(bucket).key(name(&file)?).send().await?.body;
    let mut size = 0;
    while let Some(chunk) = body.try_next().await? {
        size += chunk.len() as u64;
    }
    Ok(size)
}

fn name(file: &Path) -> anyhow::Result<&str> {
    file.file_name().and_then(|name| name.to_str()).context("a file without a name in UTF-8")
}
