//! The load client of the comparison in `benches/versus/`: it stores, queries and retrieves as fast as a
//! server lets it.
//!
//! It uses threads and blocking sockets, so that it costs as little of the machine that it shares with the
//! server as can be. Each command prints one line of JSON: seconds, bytes,
//! requests, latencies.

use std::io::{Error, Result, Write};
use std::time::{Duration, Instant};

mod delay;
mod dicom;
mod dimse;
mod fill;
mod http;
mod sink;

const USAGE: &str = "load stow URL CONNECTIONS INSTANCES_PER_REQUEST DIRECTORY
load get ADDRESS CONNECTIONS REPEATS ACCEPT CODING PATHS_FILE
load fill ADDRESS PATH CONNECTIONS FIRST_STUDY LAST_STUDY INSTANCES FILE
load c-store ADDRESS AE_TITLE ASSOCIATIONS DIRECTORY
load sink ADDRESS DIRECTORY
load c-store-sink ADDRESS DIRECTORY
load delay UPSTREAM MILLISECONDS";

fn main() -> Result<()> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let words: Vec<&str> = arguments.iter().map(String::as_str).collect();
    let report = match words[..] {
        ["stow", url, connections, per_request, directory] => {
            http::stow(url, number(connections)?, number(per_request)?, directory)?
        }
        ["get", address, connections, repeats, accept, coding, paths] => {
            let headers = format!("Accept: {accept}\r\nAccept-Encoding: {coding}\r\n");
            http::get(address, number(connections)?, number(repeats)?, &headers, paths)?
        }
        ["fill", address, path, connections, first, last, instances, file] => {
            let studies = number(first)?..number(last)? + 1;
            fill::fill(address, path, number(connections)?, studies, number(instances)?, file)?
        }
        ["c-store", address, ae_title, associations, directory] => {
            dimse::store(address, ae_title, number(associations)?, directory)?
        }
        ["sink", address, directory] => return sink::http(address, directory),
        ["c-store-sink", address, directory] => return sink::dimse(address, directory),
        ["delay", upstream, milliseconds] => return delay::run(upstream, number(milliseconds)? as u64),
        _ => {
            // Cargo's test runner starts examples without arguments.
            return writeln!(std::io::stderr(), "{USAGE}");
        }
    };
    writeln!(std::io::stdout(), "{}", report.json())
}

fn number(text: &str) -> Result<usize> {
    text.parse().map_err(|_| Error::other(format!("`{text}` is not a number")))
}

/// What a run took.
#[derive(Default)]
struct Report {
    elapsed: Duration,
    /// Bytes of payload in the direction that matters.
    bytes: u64,
    /// One latency for each request.
    latencies: Vec<Duration>,
}

impl Report {
    fn json(mut self) -> String {
        self.latencies.sort();
        let at = |part: f64| {
            let place = (self.latencies.len() as f64 * part) as usize;
            self.latencies.get(place.min(self.latencies.len().saturating_sub(1)))
        };
        let ms = |part: f64| at(part).map_or(0.0, |latency| latency.as_secs_f64() * 1e3);
        format!(
            r#"{{"seconds": {:.6}, "bytes": {}, "requests": {}, "p50_ms": {:.4}, "p95_ms": {:.4}, "max_ms": {:.4}}}"#,
            self.elapsed.as_secs_f64(),
            self.bytes,
            self.latencies.len(),
            ms(0.5),
            ms(0.95),
            ms(1.0)
        )
    }
}

/// Shares `jobs` out to `workers` threads and joins what they report.
///
/// `connect` is called by each worker before the clock starts; it gives the function that does one job and
/// says how many bytes it moved.
fn run<J: Sync, F>(jobs: &[J], workers: usize, connect: impl Fn() -> Result<F> + Sync) -> Result<Report>
where
    F: FnMut(&J) -> Result<u64>,
{
    let next = std::sync::atomic::AtomicUsize::new(0);
    let ready = std::sync::Barrier::new(workers + 1);
    let work = || -> Result<Report> {
        let connected = connect();
        ready.wait();
        let mut act = connected?;
        let mut report = Report::default();
        while let Some(job) = jobs.get(next.fetch_add(1, std::sync::atomic::Ordering::Relaxed)) {
            let start = Instant::now();
            report.bytes += act(job)?;
            report.latencies.push(start.elapsed());
        }
        Ok(report)
    };
    std::thread::scope(|scope| {
        let threads: Vec<_> = (0..workers).map(|_| scope.spawn(work)).collect();
        ready.wait();
        let start = Instant::now();
        let mut total = Report::default();
        for thread in threads {
            let report = thread.join().map_err(|_| Error::other("a worker panicked"))??;
            total.bytes += report.bytes;
            total.latencies.extend(report.latencies);
        }
        total.elapsed = start.elapsed();
        Ok(total)
    })
}
