//! The audit log: the record that each request leaves, in the log of its tenant alone.

use std::io::{BufRead, BufReader, Read};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::mpsc;
use std::time::Duration;

use cuspid::audit::SERVER_LOG;
use cuspid::audit::listing::AuditQuery;
use cuspid::audit::record::AuditRecord;
use cuspid::server;
use serde_json::Value;

use crate::harness::{EXPLICIT, STORE_TYPE, Server, data_set, embedded, multipart, native};

const STUDY: &str = "/studies/1.2";

async fn get(server: &Server, path: &str) -> u16 {
    get_as(server, path, "*/*").await
}

async fn get_as(server: &Server, path: &str, accept: &str) -> u16 {
    let response = server.request("GET", server.url(path)).header("Accept", accept).send().await.unwrap();
    let status = response.status().as_u16();
    response.bytes().await.unwrap();
    status
}

/// A record in short: its event, action, study, patient, and detail or query.
fn outline(record: &AuditRecord) -> String {
    let entry = &record.entry;
    let texts = [&entry.study, &entry.patient, &entry.detail, &entry.query];
    let texts = texts.map(|text| text.as_deref().unwrap_or("-"));
    let outcome = u8::from(entry.outcome);
    format!("{} {} {outcome} {}", entry.event.name(), entry.action.letter(), texts.join(" "))
}

async fn records(server: &Server, tenant: &str) -> Vec<AuditRecord> {
    let page = server.engine.archive.audit().list(tenant, &AuditQuery::default(), None, 1000).await.unwrap();
    page.records.into_iter().rev().collect()
}

async fn outlines(server: &Server) -> Vec<String> {
    records(server, "default").await.iter().map(outline).collect()
}

fn file(instance: &str) -> Vec<u8> {
    native("1.2", "1.2.1", instance)
}

#[tokio::test]
async fn each_request_leaves_the_record_of_its_event() {
    let server = Server::start().await;
    server.store(&[file("1.2.1.1"), file("1.2.1.2")]).await;
    let patient = records(&server, "default").await[0].entry.patient.clone();
    let patient = patient.as_deref().unwrap_or("-");
    let series = format!("{STUDY}/series/1.2.1");
    let instance = format!("{series}/instances/1.2.1.1");
    assert_eq!(get(&server, "/studies?PatientName=A*&limit=1").await, 200);
    assert_eq!(get(&server, "/studies?PatientName=A*&limit=2").await, 200);
    for path in [
        format!("{STUDY}/metadata"),
        format!("{series}/metadata"),
        format!("{instance}/frames/1"),
        format!("{instance}/frames/1/rendered"),
        format!("{instance}/rendered"),
    ] {
        assert_eq!(get(&server, &path).await, 200, "{path}");
    }
    assert_eq!(get(&server, &format!("{STUDY}/thumbnail")).await, 200);
    assert_eq!(get_as(&server, STUDY, "application/zip").await, 200);
    assert_eq!(get_as(&server, STUDY, "application/zip").await, 200);
    for path in [instance.clone(), format!("{series}/instances/1.2.1.2")] {
        assert_eq!(get(&server, &path).await, 200, "{path}");
    }
    let uri = "requestType=WADO&studyUID=1.2&seriesUID=1.2.1&objectUID=1.2.1.1";
    let uri = format!("/wado?{uri}&contentType=application/dicom");
    assert_eq!(get(&server, &uri).await, 200);
    // What is not there, or cannot be read, is no access.
    assert_eq!(get(&server, "/studies/1.3/metadata").await, 404);
    assert_eq!(get(&server, "/studies/x/metadata").await, 400);
    assert_eq!(get(&server, "/studies?limit=x").await, 400);
    let delete = |path: String| server.request("DELETE", server.url(&path)).send();
    assert_eq!(delete(instance).await.unwrap().status(), 204);
    assert_eq!(delete(STUDY.to_owned()).await.unwrap().status(), 204);
    assert_eq!(delete(STUDY.to_owned()).await.unwrap().status(), 404);
    let expected = [
        format!("instances-transferred C 0 1.2 {patient} - -"),
        "query E 0 - - - /dicom-web/studies?PatientName=A*&limit=1".to_owned(),
        format!("instances-accessed R 0 1.2 {patient} - -"),
        format!("instances-accessed R 0 1.2 {patient} thumbnails -"),
        format!("instances-transferred R 0 1.2 {patient} - -"),
        format!("instances-transferred R 0 1.2 {patient} - -"),
        format!("instances-transferred R 0 1.2 {patient} single instances -"),
        format!("instances-accessed D 0 1.2 {patient} instance 1.2.1.1 -"),
        format!("study-deleted D 0 1.2 {patient} - -"),
    ];
    assert_eq!(outlines(&server).await, expected);
    for record in records(&server, "default").await {
        assert_eq!(record.entry.user.address, "127.0.0.1", "{record:?}");
    }
    let found = server.engine.archive.audit().verify("default", &Default::default()).await.unwrap();
    assert_eq!((found.records, found.faults.as_slice()), (expected.len() as u64, &[][..]));
}

#[tokio::test]
async fn frames_and_instances_of_a_study_write_one_record_each() {
    let server = Server::start().await;
    let instances: Vec<String> = (1..=60).map(|number| format!("1.2.1.{number}")).collect();
    // In one request, and one by one.
    let files: Vec<Vec<u8>> = instances[..40].iter().map(|uid| file(uid)).collect();
    server.store(&files).await;
    for instance in &instances[40..] {
        server.store(&[file(instance)]).await;
    }
    let before = outlines(&server).await;
    assert_eq!(before.len(), 1, "{before:?}");
    for _ in 0..3 {
        for instance in &instances {
            let path = format!("{STUDY}/series/1.2.1/instances/{instance}/frames/1");
            assert_eq!(get(&server, &path).await, 200);
        }
    }
    assert_eq!(outlines(&server).await.len(), 2);
    // The same bytes again are another event: the server had them.
    server.store(&files).await;
    let after = outlines(&server).await;
    assert_eq!(after.len(), 3);
    assert!(after[2].starts_with("instances-transferred R 0 1.2"), "{after:?}");
}

#[tokio::test]
async fn the_log_is_read_page_by_page_and_its_use_is_recorded() {
    let server = Server::start().await;
    server.store(&[data_set("1.2", "1.2.1", "1.2.1.1").file(EXPLICIT)]).await;
    server.store(&[data_set("1.3", "1.3.1", "1.3.1.1").file(EXPLICIT)]).await;
    let url = |query: &str| format!("http://{}/audit{query}", server.address);
    let page = async |query: &str| -> (Value, Option<String>) {
        let response = server.request("GET", url(query)).send().await.unwrap();
        assert_eq!(response.status(), 200, "{query}");
        assert_eq!(response.headers()["cache-control"], "no-store");
        let link = response.headers().get("link").map(|link| link.to_str().unwrap().to_owned());
        (response.json().await.unwrap(), link)
    };
    let (first, link) = page("?limit=2").await;
    let names = |page: &Value| {
        let records = page["records"].as_array().unwrap().clone();
        records.iter().map(|record| record["event"].as_str().unwrap().to_owned()).collect::<Vec<_>>()
    };
    assert_eq!(names(&first), ["audit-log-used", "instances-transferred"]);
    assert_eq!(first["records"][1]["study"], "1.3");
    let link = link.unwrap();
    let next = link.strip_prefix("</audit").unwrap().split('>').next().unwrap();
    let (second, _) = page(next).await;
    assert_eq!(second["records"][0]["study"], "1.2");
    let (found, link) = page("?study=1.2&event=110104").await;
    assert_eq!((names(&found).len(), found["more"].as_bool(), link), (1, Some(false), None));
    let (used, _) = page("?event=audit-log-used").await;
    assert_eq!(used["records"][1]["query"], "study=1.2&event=110104");
    for wrong in ["?event=x", "?from=yesterday", "?limit=0", "?after=1", "?studi=1.2"] {
        assert_eq!(server.request("GET", url(wrong)).send().await.unwrap().status(), 400, "{wrong}");
    }
}

/// A server in a process of its own, on a data directory.
struct Process {
    child: Child,
    address: String,
}

impl Process {
    fn start(data: &Path) -> Self {
        let mut child = Command::new(env!("CARGO_BIN_EXE_cuspid"))
            .args(["serve", "--http", "127.0.0.1:0", "--dimse", "", "--data"])
            .arg(data)
            .stderr(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let (sender, lines) = mpsc::channel();
        let outputs: [Box<dyn Read + Send>; 2] =
            [Box::new(child.stdout.take().unwrap()), Box::new(child.stderr.take().unwrap())];
        for output in outputs {
            let sender = sender.clone();
            std::thread::spawn(move || {
                BufReader::new(output).lines().map_while(Result::ok).for_each(|line| drop(sender.send(line)));
            });
        }
        let address = loop {
            let line = lines.recv_timeout(Duration::from_secs(60)).expect("the server is ready");
            if let Some((_, rest)) = line.split_once("HTTP on http://") {
                break rest.split('/').next().unwrap().to_owned();
            }
        };
        Self { child, address }
    }

    fn kill(mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }
}

#[tokio::test]
async fn each_answer_has_its_record_after_a_kill() {
    let data = tempfile::tempdir().unwrap();
    let client = reqwest::Client::new();
    let mut expected = 0;
    for round in 0..6 {
        let process = Process::start(data.path());
        let url = |path: &str| format!("http://{}/dicom-web/studies{path}", process.address);
        let study = format!("1.2.{round}");
        let store = client.post(url("")).header("Content-Type", STORE_TYPE);
        let stored = store.body(multipart(&[native(&study, &format!("{study}.1"), &format!("{study}.1.1"))]));
        assert_eq!(stored.send().await.unwrap().status(), 200);
        let metadata = client.get(url(&format!("/{study}/metadata")));
        assert_eq!(metadata.send().await.unwrap().status(), 200);
        let last = match round % 3 {
            0 => client.get(url(&format!("?StudyInstanceUID={study}"))).send().await,
            1 => client.delete(url(&format!("/{study}"))).send().await,
            _ => client.get(url(&format!("/{study}"))).send().await,
        };
        // The kill comes right after the head of the answer.
        assert!(last.unwrap().status().is_success());
        process.kill();
        expected += 3;
    }
    let archive = server::open(&embedded(data.path())).await.unwrap();
    let found = archive.audit().verify("default", &Default::default()).await.unwrap();
    assert_eq!((found.records, found.chains, found.faults.as_slice()), (expected, 6, &[][..]));
    let found = archive.audit().verify(SERVER_LOG, &Default::default()).await.unwrap();
    assert_eq!((found.records, found.faults.as_slice()), (6, &[][..]));
}

#[tokio::test]
async fn an_index_that_is_built_again_keeps_the_log_and_the_command_verifies_it() {
    let data = tempfile::tempdir().unwrap();
    let config = embedded(data.path());
    let server = server::start(config.clone()).await.unwrap();
    let client = reqwest::Client::new();
    let url = format!("http://{}/dicom-web/studies", server.http);
    let stored = client.post(&url).header("Content-Type", STORE_TYPE).body(multipart(&[file("1.2.1.1")]));
    assert_eq!(stored.send().await.unwrap().status(), 200);
    assert_eq!(client.get(format!("{url}/1.2/metadata")).send().await.unwrap().status(), 200);
    drop(client);
    server.stop().await.unwrap();
    let command = |arguments: &[&str]| {
        let command = Command::new(env!("CARGO_BIN_EXE_cuspid"))
            .args(arguments)
            .arg("--data")
            .arg(data.path())
            .output()
            .unwrap();
        (command.status.success(), String::from_utf8(command.stdout).unwrap())
    };
    assert!(command(&["reindex"]).0);
    let heads = data.path().join("heads");
    let (is_whole, text) = command(&["audit", "verify", "--save-heads", heads.to_str().unwrap()]);
    assert!(is_whole && text.contains("default: 2 records in 1 chains: whole"), "{text}");
    assert!(text.contains("!server: 2 records in 1 chains: whole"), "{text}");
    let (_, lines) = command(&["audit", "export", "--tenant", "default"]);
    let lines: Vec<Value> = lines.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert_eq!(lines.len(), 2);
    assert_eq!((&lines[0]["event"], &lines[1]["user"]), (&"instances-transferred".into(), &"".into()));
    let (_, xml) =
        command(&["audit", "export", "--format", "xml", "--from", "2020-01-01", "--to", "2999-12-31"]);
    assert_eq!(xml.matches("<AuditMessage>").count(), 4);
    assert_eq!(
        command(&["audit", "export", "--format", "syslog", "--to", "2020-01-01"]),
        (true, String::new())
    );
    // A log that is not there any more is missed.
    std::fs::remove_file(data.path().join("index.redb")).unwrap();
    assert!(command(&["reindex"]).0);
    let (is_whole, text) = command(&["audit", "verify", "--heads", heads.to_str().unwrap()]);
    assert!(!is_whole && text.contains("default: the head of chain"), "{text}");
    // The heads of a log with faults would hide them the next time; an empty file would prove nothing.
    let path = heads.to_str().unwrap();
    for _ in 0..2 {
        assert!(!command(&["audit", "verify", "--heads", path, "--save-heads", path]).0);
    }
    let text = std::fs::read_to_string(&heads).unwrap();
    let cut = text.lines().next().unwrap_or_default();
    for text in ["", "\n", cut] {
        std::fs::write(&heads, text).unwrap();
        assert!(!command(&["audit", "verify", "--tenant", "default", "--heads", path]).0, "{text}");
    }
}
