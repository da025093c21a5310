//! Tags and UIDs of the standard are written once, in `src/dicom/{tags,uids,transfer_syntax}.rs`; all other
//! code uses those constants.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

const LISTS: [&str; 3] = ["dicom/tags.rs", "dicom/uids.rs", "dicom/transfer_syntax.rs"];

#[test]
fn only_the_lists_write_tags_and_uids_of_the_standard() {
    let src = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let mut wrong = Vec::new();
    for file in files(&src) {
        if LISTS.iter().any(|list| file.ends_with(list)) {
            continue;
        }
        let mut is_test = ["tests.rs", "build.rs"].iter().any(|end| file.to_string_lossy().ends_with(end));
        for line in fs::read_to_string(&file).unwrap().lines() {
            is_test |= line == "mod tests {";
            // A test may write a value where the value is what it claims, but not name it.
            if (!is_test || line.contains("const ")) && has_literal(line) {
                wrong.push(format!("{}: {line}", file.display()));
            }
        }
    }
    assert!(wrong.is_empty(), "\n{}", wrong.join("\n"));
}

#[test]
fn no_tag_has_two_names() {
    let list = Path::new(env!("CARGO_MANIFEST_DIR")).join("src").join(LISTS[0]);
    let text = fs::read_to_string(list).unwrap();
    let constants = text.split("pub const ").skip(1).filter_map(|constant| constant.split(';').next());
    let values: Vec<&str> = constants.map(|constant| constant.rsplit('=').next().unwrap().trim()).collect();
    assert!(values.len() > 200, "{}", values.len());
    let mut seen = BTreeSet::new();
    let twice: Vec<_> = values.into_iter().filter(|value| !seen.insert(*value)).collect();
    assert!(twice.is_empty(), "{twice:?}");
}

#[test]
fn literals_are_found() {
    for (line, expected) in [
        ("const ROWS: Tag = Tag(0x0028_0010);", true),
        ("uid == \"1.2.840.10008.1.2.1\"", true),
        ("Tag(tag.0 & 0xFFFF_0000)", false),
        ("tags::ROWS", false),
    ] {
        assert_eq!(has_literal(line), expected, "{line}");
    }
}

/// Whether a line of code writes a tag or a UID of the standard in digits.
fn has_literal(line: &str) -> bool {
    let is_comment = line.trim_start().starts_with("//");
    !is_comment && (line.contains("Tag(0x") || line.contains("\"1.2.840.10008."))
}

fn files(path: &Path) -> Vec<PathBuf> {
    if path.is_dir() {
        return fs::read_dir(path).unwrap().flat_map(|entry| files(&entry.unwrap().path())).collect();
    }
    if path.extension().is_some_and(|extension| extension == "rs") { vec![path.into()] } else { Vec::new() }
}
