//! Takes in each file named, one a line, and prints its first frames decoded, a JSON object a line: `frames`,
//! each with `bytes` (base64), `photometric` and `is_planar` or with `failed`; or `refused` with the reason.
//! `tools/pydicom_frames.py` compares them with pydicom's.

use std::io::{BufRead, Write};
use std::sync::Arc;

use base64::prelude::{BASE64_STANDARD, Engine};
use clap::Parser;
use serde_json::{Value, json};

use cuspid::archive::Archive;
use cuspid::archive::access::Caller;
use cuspid::archive::derived::frames::decoded_frame;
use cuspid::blobs::memory::MemoryBlobs;
use cuspid::cli::Arguments;
use cuspid::config::Config;
use cuspid::index::Index;
use cuspid::table::redb::Redb;

const MOST_FRAMES: u32 = 3;

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    if std::env::args().nth(1).is_some_and(|command| command == "decoder") {
        // A decoder process of this program.
        return Arguments::parse().run();
    }
    let mut out = std::io::stdout().lock();
    for path in std::io::stdin().lock().lines() {
        let decoded = decode(std::fs::read(path?)?).await?;
        writeln!(out, "{decoded}")?;
    }
    Ok(())
}

async fn decode(file: Vec<u8>) -> anyhow::Result<Value> {
    let index = Index::new(Arc::new(Redb::in_memory()?));
    let archive = Archive::new(Arc::new(MemoryBlobs::new()), Arc::new(index), &Config::defaults());
    let caller = Caller::anonymous();
    let mut upload = archive.receive(&caller, None).await;
    upload.write(file.into()).await;
    let outcome = upload.finish().await.await;
    let identity = match (outcome.identity, outcome.result) {
        (Some(identity), Ok(_)) => identity,
        (_, result) => return Ok(json!({ "refused": result.err().map(|error| error.to_string()) })),
    };
    let record = archive.instance(&caller, &identity.study, &identity.series, &identity.instance).await?;
    let number_of_frames = record.layout.pixels.as_ref().map_or(0, |pixels| pixels.number_of_frames);
    let mut frames = Vec::new();
    for number in 1..=number_of_frames.min(MOST_FRAMES) {
        frames.push(match decoded_frame(&archive, &caller, &record, number).await {
            Ok(frame) => json!({
                "bytes": BASE64_STANDARD.encode(frame.bytes),
                "photometric": frame.photometric,
                "is_planar": frame.is_planar,
            }),
            Err(error) => json!({ "failed": error.to_string() }),
        });
    }
    Ok(json!({ "frames": frames }))
}
