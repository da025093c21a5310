//! Documents name files that exist.

use std::fs;
use std::path::Path;

/// Documents in which a path in backticks is a file or folder of this repository.
const DOCUMENTS: &[&str] = &["README.md", "CONTRIBUTING.md", "docs/ARCHITECTURE.md"];
/// Beginnings of paths that are of this repository.
const ROOTS: &[&str] =
    &["src/", "tests/", "tools/", "docs/", "conformance/", "benches/", "infra/", "testdata/"];

#[test]
fn every_file_that_a_document_names_exists() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut missing = Vec::new();
    let mut count = 0;
    for document in DOCUMENTS {
        let text = fs::read_to_string(root.join(document)).unwrap();
        let names = text.split('`').skip(1).step_by(2);
        for name in names.filter(|name| ROOTS.iter().any(|start| name.starts_with(start))) {
            let path = name.split_whitespace().next().unwrap_or_default();
            count += 1;
            if !root.join(path).exists() {
                missing.push(format!("{document}: `{path}` does not exist"));
            }
        }
    }
    assert!(missing.is_empty(), "\n{}", missing.join("\n"));
    assert!(count > 40, "only {count} paths were found: is the test blind?");
}

#[test]
fn every_link_of_a_document_leads_to_a_file() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut documents: Vec<_> = ["README.md", "CONTRIBUTING.md"].iter().map(|name| root.join(name)).collect();
    for folder in ["docs", "docs/decisions"] {
        let entries = fs::read_dir(root.join(folder)).unwrap().map(|entry| entry.unwrap().path());
        documents.extend(entries.filter(|path| path.extension().is_some_and(|extension| extension == "md")));
    }
    let mut broken = Vec::new();
    for document in &documents {
        let text = fs::read_to_string(document).unwrap();
        for link in text.split("](").skip(1).filter_map(|rest| rest.split(')').next()) {
            let path = link.split('#').next().unwrap_or_default();
            let is_elsewhere = path.is_empty() || path.contains("://");
            if !is_elsewhere && !document.parent().unwrap().join(path).exists() {
                broken.push(format!("{}: {link}", document.display()));
            }
        }
    }
    assert!(documents.len() > 20 && broken.is_empty(), "\n{}", broken.join("\n"));
}
