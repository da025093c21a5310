//! Hostile frames: each costs itself, and neither the server nor other clients.

use std::fs;
use std::io::{BufRead, BufReader};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use cuspid::pixel::j2k::{Loss, encode};
use cuspid::pixel::{Image, Shape};
use reqwest::{Client, Response};
use rustix::process::{Pid, Signal, kill_process};
use tempfile::TempDir;
use tokio::task::JoinHandle;

use crate::bombs::{JPEG, JPEG_2000, JPEG_LS, cut_jpeg_ls, file, j2k, progressive};
use crate::harness::{STORE_TYPE, Server, multipart};

/// The client that sends bombs, and another one.
const HOSTILE: &str = "10.0.0.1";
const OTHER: &str = "10.0.0.2";
/// The longest time that the other client waits for a small image.
const SMALL_LIMIT: Duration = Duration::from_millis(500);
/// The most memory that the server may have taken, in KiB. Decoder processes have their own.
pub(crate) const MAX_SERVER_KIB: u64 = 300 * 1024;

/// A small image in JPEG 2000, instance 1.2.1.
fn small() -> Vec<u8> {
    let shape = Shape { rows: 16, columns: 16, samples: 1 };
    let image = Image { shape, precision: 8, is_signed: false, samples: (0..256).collect() };
    file("1.2", "1.2.1", 16, JPEG_2000, &encode(&image, Loss::None).unwrap())
}

/// Hundred passes over 67 million samples: some seconds in a frame that no check refuses.
fn slow(instance: &str) -> Vec<u8> {
    file("1.3", instance, 8192, JPEG, &progressive(8192, 90))
}

fn path(series: &str, instance: &str) -> String {
    format!("/studies/1.1/series/{series}/instances/{instance}/rendered")
}

async fn get(url: String, client: &str) -> Response {
    let request = Client::new().get(url).header("Accept", "image/png").header("X-Forwarded-For", client);
    request.send().await.unwrap()
}

/// Requests a frame that takes long, in the background.
fn request(server: &Server, instance: &str, client: &'static str) -> JoinHandle<u16> {
    let url = server.url(&path("1.3", instance));
    tokio::spawn(async move { get(url, client).await.status().as_u16() })
}

/// The time until the other client has its image, the shortest of up to ten: other tests run at the same
/// time.
async fn small_time(url: &str) -> Duration {
    let mut shortest = Duration::MAX;
    for _ in 0..10 {
        if shortest < SMALL_LIMIT {
            break;
        }
        let start = Instant::now();
        assert_eq!(get(url.to_owned(), OTHER).await.status(), 200);
        shortest = shortest.min(start.elapsed());
    }
    shortest
}

/// The decoder processes that were started with a memory limit, which tells those of one test from others.
fn decoders(memory_bytes: u64) -> Vec<Pid> {
    let processes =
        fs::read_dir("/proc").unwrap().filter_map(|entry| entry.ok()?.file_name().into_string().ok());
    let is_decoder = |number: &String| {
        let arguments = fs::read(format!("/proc/{number}/cmdline")).unwrap_or_default();
        let arguments: Vec<_> = arguments.split(|&byte| byte == 0).collect();
        arguments.get(1..4).is_some_and(|given| {
            given == [b"decoder".as_slice(), b"--memory-bytes", memory_bytes.to_string().as_bytes()]
        })
    };
    processes.filter(is_decoder).filter_map(|number| Pid::from_raw(number.parse().ok()?)).collect()
}

/// Whether a process has used the processor for longer than its start takes: 0.3 s, in ticks of 10 ms.
fn is_at_work(process: Pid) -> bool {
    let status = fs::read_to_string(format!("/proc/{}/stat", process.as_raw_nonzero())).unwrap_or_default();
    let fields = status.rsplit(") ").next().unwrap_or_default();
    fields.split(' ').nth(11).and_then(|ticks| ticks.parse::<u32>().ok()).is_some_and(|ticks| ticks >= 30)
}

async fn until(mut is_reached: impl FnMut() -> bool) {
    let mut interval = tokio::time::interval(Duration::from_millis(5));
    for _ in 0..4000 {
        if is_reached() {
            return;
        }
        interval.tick().await;
    }
    panic!("not reached in 20 s");
}

/// The program, with its data in a directory of its own. Killed when dropped.
pub(crate) struct Program {
    child: Child,
    pub(crate) url: String,
    _data: TempDir,
}

impl Program {
    pub(crate) fn start() -> Self {
        let data = tempfile::tempdir().unwrap();
        let mut command = Command::new(env!("CARGO_BIN_EXE_cuspid"));
        command.arg("serve").arg("--data").arg(data.path()).args(["--http", "127.0.0.1:0", "--dimse", ""]);
        command.args(["--set", "preview.enabled=false", "--set", "decoders.max_seconds=1"]);
        command.env_clear().stderr(Stdio::piped());
        let mut child = command.spawn().unwrap();
        let mut lines = BufReader::new(child.stderr.take().unwrap()).lines();
        let url = |line: &str| Some(line.split_once("HTTP on ")?.1.split(',').next()?.to_owned());
        let ready = lines.find_map(|line| url(&line.unwrap()));
        std::thread::spawn(move || lines.for_each(drop));
        let url = format!("{}dicom-web", ready.unwrap());
        Self { child, url, _data: data }
    }

    pub(crate) async fn store(&self, instances: &[Vec<u8>]) {
        let request = Client::new().post(format!("{}/studies", self.url));
        let response = request.header("Content-Type", STORE_TYPE).body(multipart(instances)).send().await;
        assert_eq!(response.unwrap().status(), 200);
    }

    pub(crate) fn most_memory_kib(&self) -> u64 {
        let status = fs::read_to_string(format!("/proc/{}/status", self.child.id())).unwrap();
        let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).unwrap();
        line.split_whitespace().next().unwrap().parse().unwrap()
    }
}

impl Drop for Program {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

#[tokio::test]
async fn each_bomb_costs_one_image_and_no_memory_of_the_server() {
    let program = Program::start();
    let bombs = [
        ("precincts", j2k(2048, 1, &[0]), 2048, JPEG_2000),
        ("precincts of a level", j2k(1024, 1, &[0x22, 0x33, 0x33]), 1024, JPEG_2000),
        ("layers", j2k(64, 65535, &[]), 64, JPEG_2000),
        ("layers and precincts", j2k(512, 65535, &[0x66; 6]), 512, JPEG_2000),
        ("scans", progressive(2048, 500), 2048, JPEG),
        ("time", progressive(8192, 99), 8192, JPEG),
        ("an end that is missing", cut_jpeg_ls(64), 64, JPEG_LS),
    ];
    program.store(&[small()]).await;
    let small_url = format!("{}{}", program.url, path("1.2", "1.2.1"));
    for (number, (name, frame, side, syntax)) in bombs.iter().enumerate() {
        let instance = format!("1.3.{number}");
        program.store(&[file("1.3", &instance, *side, syntax, frame)]).await;
        let bomb = tokio::spawn(get(format!("{}{}", program.url, path("1.3", &instance)), HOSTILE));
        let start = Instant::now();
        let waited = small_time(&small_url).await;
        assert!(waited < SMALL_LIMIT, "{name}: another client waited for {waited:?}");
        let response = bomb.await.unwrap();
        let status = response.status().as_u16();
        assert_eq!(status, 406, "{name}: {}", response.text().await.unwrap());
        assert!(start.elapsed() < Duration::from_secs(10), "{name}: {:?}", start.elapsed());
    }
    let most = program.most_memory_kib();
    assert!(most < MAX_SERVER_KIB, "{most} KiB");
}

#[tokio::test]
async fn a_frame_that_needs_too_much_memory_is_refused() {
    let server = Server::with(|config| config.decoders.max_memory_bytes = 256 << 20).await;
    let large = file("1.3", "1.3.1", 8192, JPEG_2000, &j2k(8192, 1, &[]));
    server.store(&[large, small()]).await;
    let response = get(server.url(&path("1.3", "1.3.1")), HOSTILE).await;
    assert_eq!(response.status(), 406);
    let reason = response.text().await.unwrap();
    assert!(reason.contains("decoders.max_memory_bytes"), "{reason}");
    assert_eq!(get(server.url(&path("1.2", "1.2.1")), HOSTILE).await.status(), 200);
    let metrics =
        reqwest::get(format!("http://{}/metrics", server.address)).await.unwrap().text().await.unwrap();
    assert!(metrics.contains("cuspid_decoder_failures_total{cause=\"memory\"}"), "{metrics}");
}

#[tokio::test]
async fn a_client_with_many_slow_frames_does_not_keep_another_from_its_image() {
    let server = Server::with(|config| config.decoders.max_seconds = 4).await;
    server.store(&[slow("1.3.1"), small()]).await;
    let slow: Vec<_> = (0..6).map(|_| request(&server, "1.3.1", HOSTILE)).collect();
    tokio::time::sleep(Duration::from_millis(200)).await;
    let waited = small_time(&server.url(&path("1.2", "1.2.1"))).await;
    assert!(waited < SMALL_LIMIT, "{waited:?}");
    slow.iter().for_each(JoinHandle::abort);
}

#[tokio::test]
async fn a_frame_that_nobody_waits_for_any_longer_frees_its_process() {
    // A number that tells the processes of this test from others.
    const MEMORY_BYTES: u64 = (2 << 30) + 1;
    let server = Server::with(|config| {
        config.decoders.processes = 1;
        config.decoders.max_seconds = 600;
        config.decoders.max_memory_bytes = MEMORY_BYTES;
    })
    .await;
    server.store(&[slow("1.3.1"), small()]).await;
    let abandoned = request(&server, "1.3.1", HOSTILE);
    until(|| decoders(MEMORY_BYTES).len() == 1).await;
    let process = decoders(MEMORY_BYTES)[0];
    let queued = request(&server, "1.3.1", HOSTILE);
    abandoned.abort();
    queued.abort();
    let response = get(server.url(&path("1.2", "1.2.1")), HOSTILE).await;
    assert_eq!(response.status(), 200);
    until(|| !decoders(MEMORY_BYTES).contains(&process)).await;
}

#[tokio::test]
async fn a_process_that_is_killed_costs_one_frame_or_none() {
    const MEMORY_BYTES: u64 = (2 << 30) + 2;
    let server = Server::with(|config| {
        config.decoders.max_seconds = 600;
        config.decoders.max_memory_bytes = MEMORY_BYTES;
    })
    .await;
    server.store(&[slow("1.3.1"), small()]).await;
    let small_url = server.url(&path("1.2", "1.2.1"));
    let killed = request(&server, "1.3.1", HOSTILE);
    until(|| decoders(MEMORY_BYTES).len() == 1).await;
    until(|| decoders(MEMORY_BYTES).into_iter().any(is_at_work)).await;
    kill_process(decoders(MEMORY_BYTES)[0], Signal::KILL).unwrap();
    assert_eq!(killed.await.unwrap(), 406);
    assert_eq!(get(small_url.clone(), HOSTILE).await.status(), 200);

    // One that has no work.
    let [idle] = decoders(MEMORY_BYTES)[..] else { panic!("one process is kept") };
    kill_process(idle, Signal::KILL).unwrap();
    until(|| !decoders(MEMORY_BYTES).contains(&idle)).await;
    assert_eq!(get(small_url, HOSTILE).await.status(), 200);
}

#[tokio::test]
async fn a_hostile_series_fails_its_preview_at_the_first_attempt() {
    let server = Server::with(|config| {
        config.preview.enabled = true;
        config.preview.quiet_seconds = 0;
        config.decoders.max_seconds = 1;
    })
    .await;
    server.store(&[slow("1.3.1")]).await;
    let url = format!("http://{}/stream/studies/1.1/series/1.3", server.address);
    let mut response = reqwest::get(&url).await.unwrap();
    while response.status() == 503 {
        tokio::time::sleep(Duration::from_millis(50)).await;
        response = reqwest::get(&url).await.unwrap();
    }
    assert_eq!(response.status(), 404);
    let reason = response.text().await.unwrap();
    assert!(reason.contains("decoders.max_seconds"), "{reason}");
}
