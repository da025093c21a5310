//! The architecture, as a test: a module may import only the modules named beside it.
//!
//! Imports across modules are written `use crate::module::…`, one module a line, so that this test
//! (and a reader) can see them. `backoff`, `clock`, `config` and `telemetry` are not layers: all modules may import them.

use std::fs;
use std::path::Path;

const FOR_ALL: [&str; 4] = ["backoff", "clock", "config", "telemetry"];

const MAY_IMPORT: &[(&str, &[&str])] = &[
    ("backoff.rs", &[]),
    ("clock.rs", &[]),
    ("config", &[]),
    ("telemetry.rs", &["config"]),
    ("dicom", &[]),
    ("zip", &[]),
    ("pixel", &["dicom"]),
    ("decoders", &["dicom", "pixel"]),
    ("blobs", &[]),
    ("table", &[]),
    ("query", &["dicom"]),
    ("index", &["dicom", "query", "table"]),
    ("queue", &["dicom", "index"]),
    ("archive", &["dicom", "pixel", "decoders", "zip", "query", "blobs", "index", "queue"]),
    ("jobs", &["dicom", "pixel", "archive", "queue"]),
    ("http", &["dicom", "query", "archive"]),
    ("dimse", &["dicom", "query", "archive"]),
    ("server", &["archive", "blobs", "dimse", "http", "index", "jobs", "queue", "table"]),
    ("cli", &["dicom", "decoders", "zip", "archive", "server", "table"]),
];

#[test]
fn imports_point_downwards() {
    let src = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let mut wrong = Vec::new();
    for (module, allowed) in MAY_IMPORT {
        for_each_file(&src.join(module), &mut |file, text| {
            // Unit tests, at the end of a file or in a file of their own, may build what they need.
            let is_tests = file.ends_with("tests.rs");
            let text = if is_tests { "" } else { text.split("#[cfg(test)]").next().unwrap_or_default() };
            for (at, _) in text.match_indices("crate::") {
                let rest = &text[at + "crate::".len()..];
                let end = rest.find(|c: char| !c.is_alphanumeric() && c != '_').unwrap_or(rest.len());
                let name = &rest[..end];
                let is_for_all =
                    FOR_ALL.contains(&name) && !FOR_ALL.contains(&module.trim_end_matches(".rs"));
                if name != *module && !is_for_all && !allowed.contains(&name) {
                    wrong.push(format!("{}: `{module}` may not import `{name}`", file.display()));
                }
            }
        });
    }
    assert!(wrong.is_empty(), "\n{}", wrong.join("\n"));
}

fn for_each_file(path: &Path, check: &mut dyn FnMut(&Path, &str)) {
    if path.is_dir() {
        for entry in fs::read_dir(path).unwrap() {
            for_each_file(&entry.unwrap().path(), check);
        }
    } else {
        check(path, &fs::read_to_string(path).unwrap());
    }
}
