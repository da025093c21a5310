//! The architecture, as tests: which room may import which, that every file is in a room, and that no files
//! import each other in a circle.
//!
//! A room is a folder or a file of `src`; the room of a file is the longest entry of [`ROOMS`] that its
//! module path begins with. Imports are read from the text: `use crate::…` with or without braces, and paths
//! in code.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

/// Each room with the rooms that it may import, besides itself, the rooms inside it and those of
/// [`EVERYWHERE`].
const ROOMS: &[(&str, &[&str])] = &[
    // Pure functions on bytes and samples, and the processes that decode.
    ("dicom", &[]),
    ("zip", &[]),
    ("pixel", &["dicom"]),
    ("decoders", &["dicom", "pixel"]),
    ("query", &["dicom"]),
    // Storage.
    ("blobs", &[]),
    ("table", &[]),
    ("index", &["dicom", "query", "table"]),
    ("queue", &["dicom", "index"]),
    ("audit", &["table"]),
    // The archive.
    ("archive", &["audit", "dicom", "query", "decoders", "blobs", "index", "queue"]),
    ("archive::ingest", &["archive", "dicom", "pixel", "query", "zip", "blobs", "index", "queue"]),
    ("archive::read", &["archive", "dicom", "zip", "blobs", "index"]),
    (
        "archive::derived",
        &["archive", "archive::read", "dicom", "pixel", "decoders", "blobs", "index", "queue"],
    ),
    (
        "archive::maintenance",
        &[
            "archive",
            "archive::ingest",
            "archive::read",
            "archive::derived",
            "dicom",
            "query",
            "blobs",
            "index",
            "queue",
        ],
    ),
    ("jobs", &["archive", "archive::derived", "archive::maintenance", "dicom", "queue"]),
    // The protocol layers.
    (
        "dimse",
        &["archive", "audit", "archive::ingest", "archive::read", "archive::derived", "dicom", "query"],
    ),
    (
        "http",
        &["archive", "audit", "archive::ingest", "archive::read", "archive::derived", "archive::maintenance"],
    ),
    ("http::auth", &["http", "http::request", "http::middleware", "archive"]),
    ("http::middleware", &["http", "http::request", "http::response"]),
    ("http::request", &["http", "archive", "archive::read", "archive::derived", "dicom", "query"]),
    ("http::response", &["http", "http::request", "archive", "archive::read", "archive::derived", "dicom"]),
    (
        "http::describe",
        &[
            "archive",
            "http",
            "http::resources",
            "http::request",
            "http::response",
            "http::auth",
            "dicom",
            "query",
        ],
    ),
    (
        "http::resources",
        &[
            "http::request",
            "http",
            "http::auth",
            "http::describe",
            "http::middleware",
            "http::retrieve",
            "http::search",
            "http::sharing",
            "http::store",
            "http::wado_uri",
            "http::web",
            "archive",
            "query",
        ],
    ),
    (
        "http::sharing",
        &[
            "http",
            "http::auth",
            "http::middleware",
            "http::request",
            "http::resources",
            "http::web",
            "archive",
            "dicom",
        ],
    ),
    (
        "http::store",
        &[
            "http",
            "http::request",
            "http::response",
            "archive",
            "archive::ingest",
            "archive::derived",
            "dicom",
            "zip",
        ],
    ),
    ("http::search", &["http", "http::request", "http::response", "archive", "dicom", "query"]),
    (
        "http::retrieve",
        &["http", "http::request", "http::response", "archive", "archive::read", "archive::derived", "dicom"],
    ),
    (
        "http::wado_uri",
        &[
            "http",
            "http::request",
            "http::response",
            "http::retrieve",
            "archive",
            "archive::read",
            "archive::derived",
            "dicom",
        ],
    ),
    ("http::web", &["http", "http::auth", "http::request", "http::response", "archive"]),
];

/// Rooms that all may import.
const EVERYWHERE: &[&str] = &[
    "config",
    "telemetry",
    "clock",
    "backoff",
    "budget",
    "connections",
    "digest",
    "threads",
    "background",
    "tls",
];

/// Rooms that put the others together, and may import all of them.
const WIRING: &[&str] = &["server", "cli", "main", "lib"];

#[test]
fn rooms_import_only_what_they_may() {
    let sources = Sources::read();
    let known: BTreeSet<&str> = ROOMS.iter().map(|(room, _)| *room).collect();
    for (room, allowed) in ROOMS {
        for name in *allowed {
            assert!(known.contains(name), "`{room}` may import `{name}`, which is no room");
        }
    }
    let mut wrong = Vec::new();
    for (file, imports) in &sources.imports {
        let Some(room) = room_of(file) else {
            wrong.push(format!("{file}: is in no room of tests/it/architecture.rs"));
            continue;
        };
        for import in imports {
            let imported = room_of(import).unwrap_or("?");
            if !may_import(room, imported) {
                wrong.push(format!("{file}: `{room}` may not import `{imported}` ({import})"));
            }
        }
    }
    assert!(wrong.is_empty(), "\n{}", wrong.join("\n"));
}

#[test]
fn files_do_not_import_each_other_in_a_circle() {
    let sources = Sources::read();
    // A parent and what is below it belong together, and may name each other.
    let is_family = |a: &str, b: &str| is_below(a, b) || is_below(b, a);
    let graph: BTreeMap<&str, Vec<&str>> = sources
        .imports
        .iter()
        .map(|(file, imports)| {
            let others = imports.iter().map(String::as_str).filter(|import| !is_family(file, import));
            (file.as_str(), others.collect())
        })
        .collect();
    let circles: Vec<String> = graph.keys().filter_map(|file| circle_through(file, &graph)).collect();
    assert!(circles.is_empty(), "\n{}", circles.join("\n"));
}

#[test]
fn a_circle_is_found() {
    let graph = BTreeMap::from([("a", vec!["b"]), ("b", vec!["c"]), ("c", vec!["a"]), ("d", vec!["a"])]);
    assert_eq!(circle_through("a", &graph).as_deref(), Some("a -> b -> c -> a"));
    assert_eq!(circle_through("d", &graph), None);
}

#[test]
fn imports_are_read_in_every_form() {
    let text = "use crate::a::{B, c::{self, d}, e};\nuse crate::f;\nfn g() { crate::h::i() }\n// crate::no\n\
                #[cfg(test)]\nmod tests { use crate::tests; }";
    assert_eq!(paths_in(text), ["a::B", "a::c", "a::c::d", "a::e", "f", "h::i"]);
}

/// Whether a room may import another.
fn may_import(room: &str, imported: &str) -> bool {
    let allowed = ROOMS.iter().find(|(name, _)| *name == room).map_or(&[][..], |(_, allowed)| allowed);
    room == imported
        || WIRING.contains(&room)
        || EVERYWHERE.contains(&imported)
        || allowed.contains(&imported)
        // The root of a room may put its inner rooms together.
        || is_below(imported, room)
}

/// The innermost room of a module.
fn room_of(module: &str) -> Option<&'static str> {
    let names =
        ROOMS.iter().map(|(room, _)| *room).chain(EVERYWHERE.iter().copied()).chain(WIRING.iter().copied());
    names.filter(|room| *room == module || is_below(module, room)).max_by_key(|room| room.len())
}

/// Whether a module is inside another.
fn is_below(module: &str, parent: &str) -> bool {
    module.strip_prefix(parent).is_some_and(|rest| rest.starts_with("::"))
}

/// The shortest circle of imports through a file, if it is the first file of the circle by name.
fn circle_through(file: &str, graph: &BTreeMap<&str, Vec<&str>>) -> Option<String> {
    let mut paths = vec![vec![file]];
    let mut seen = BTreeSet::new();
    while !paths.is_empty() {
        let mut longer = Vec::new();
        for path in &paths {
            for next in graph.get(path[path.len() - 1]).into_iter().flatten() {
                if *next == file {
                    let is_first = path.iter().all(|other| *other >= file);
                    return is_first.then(|| format!("{} -> {file}", path.join(" -> ")));
                }
                if seen.insert(*next) {
                    longer.push([path.as_slice(), &[*next]].concat());
                }
            }
        }
        paths = longer;
    }
    None
}

/// The files of `src` as modules, without unit tests.
struct Sources {
    /// Each module with the modules of other files that it imports.
    imports: BTreeMap<String, BTreeSet<String>>,
}

impl Sources {
    fn read() -> Self {
        let src = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
        let mut files = Vec::new();
        list(&src, &mut files);
        let modules: BTreeSet<String> = files.iter().map(|file| module_of(&src, file)).collect();
        let imports_of = |file: &PathBuf| {
            let module = module_of(&src, file);
            let text = fs::read_to_string(file).unwrap();
            let mut imports: BTreeSet<String> =
                paths_in(&text).iter().filter_map(|path| file_of(path, &modules)).collect();
            imports.remove(&module);
            (module, imports)
        };
        Self { imports: files.iter().map(imports_of).collect() }
    }
}

/// All files with code that is not only for tests.
fn list(directory: &Path, files: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(directory).unwrap() {
        let path = entry.unwrap().path();
        let is_code = path.extension().is_some_and(|extension| extension == "rs");
        let name = path.file_stem().unwrap_or_default().to_string_lossy().into_owned();
        if path.is_dir() {
            list(&path, files);
        } else if is_code && !TEST_FILES.iter().any(|end| name.ends_with(end)) {
            files.push(path);
        }
    }
}

/// Ends of the names of files that only unit tests use.
const TEST_FILES: &[&str] = &["tests", "testing", "contract", "fake_provider", "proxy", "build"];

/// The path of a file as a module: `src/http/store/mod.rs` is `http::store`.
fn module_of(src: &Path, file: &Path) -> String {
    let relative = file.strip_prefix(src).unwrap().with_extension("");
    let names: Vec<_> = relative.iter().map(|name| name.to_string_lossy().into_owned()).collect();
    let names =
        if names.last().is_some_and(|name| name == "mod") { &names[..names.len() - 1] } else { &names };
    names.join("::")
}

/// The module of the file that holds what a path names: the longest beginning of the path that is a file.
fn file_of(path: &str, modules: &BTreeSet<String>) -> Option<String> {
    let ends = path.match_indices("::").map(|(at, _)| at).chain([path.len()]);
    ends.map(|end| &path[..end]).filter(|module| modules.contains(*module)).last().map(str::to_owned)
}

/// The paths after `crate::` in code before its unit tests, with braces resolved.
fn paths_in(text: &str) -> Vec<String> {
    let code = text.split("#[cfg(test)]\nmod tests {").next().unwrap_or_default();
    let lines = code.lines().filter(|line| !line.trim_start().starts_with("//"));
    let code = lines.collect::<Vec<_>>().join("\n");
    let mut paths = Vec::new();
    for (at, _) in code.match_indices("crate::") {
        expand("", &mut code[at + "crate::".len()..].chars().peekable(), &mut paths);
    }
    paths
}

/// Adds the paths of a use tree that follows a prefix.
fn expand(prefix: &str, rest: &mut std::iter::Peekable<std::str::Chars>, paths: &mut Vec<String>) {
    let mut path = prefix.to_owned();
    while let Some(c) = rest.next_if(|c| c.is_alphanumeric() || matches!(c, '_' | ':')) {
        path.push(c);
    }
    if rest.next_if_eq(&'{').is_none() {
        let path = path.trim_end_matches("::self").trim_end_matches(':');
        paths.extend((!path.is_empty()).then(|| path.to_owned()));
        return;
    }
    while rest.peek().is_some_and(|c| *c != '}') {
        if rest.next_if(|c| c.is_whitespace() || *c == ',').is_none() {
            expand(&path, rest, paths);
            // What follows a name, as in `a as b`, is no path.
            while rest.next_if(|c| !matches!(c, ',' | '}')).is_some() {}
        }
    }
    rest.next();
}

/// The files of the archive that use the index and a caller's tenant. Each gives the caller no more than
/// `archive::scope` says that the caller may see.
const READ_FOR_CALLERS: &[&str] = &[
    "audit.rs",
    "changes.rs",
    // As `forwarding.rs`.
    "commitments.rs",
    "derived/deidentified.rs",
    "derived/metadata_bundle.rs",
    "derived/preview/collect.rs",
    "derived/preview/mod.rs",
    "derived/rendering/thumbnail.rs",
    "derived/transcode/mod.rs",
    // Nothing for a caller by a share.
    "forwarding.rs",
    "ingest/duplicate.rs",
    "ingest/persist.rs",
    // The state of work of the server itself.
    "lease.rs",
    "maintenance/delete/mod.rs",
    "quotas.rs",
    "read/mod.rs",
    "search.rs",
    "shares.rs",
    "status.rs",
    "traffic.rs",
    "usage.rs",
    "webhooks.rs",
];

#[test]
fn the_index_is_read_for_a_caller_where_the_scope_is_checked() {
    let archive = Path::new(env!("CARGO_MANIFEST_DIR")).join("src/archive");
    let mut files = Vec::new();
    list(&archive, &mut files);
    let mut found = BTreeSet::new();
    for file in &files {
        let text = fs::read_to_string(file).unwrap();
        let code = text.split("#[cfg(test)]\nmod tests {").next().unwrap_or_default();
        let lines = code.lines().filter(|line| !line.trim_start().starts_with("//"));
        let code = lines.collect::<Vec<_>>().join("\n");
        if code.contains("caller.tenant") && (code.contains("index.") || code.contains("index\n")) {
            found.insert(file.strip_prefix(&archive).unwrap().to_string_lossy().into_owned());
        }
    }
    let known: BTreeSet<String> = READ_FOR_CALLERS.iter().map(|name| (*name).to_owned()).collect();
    assert_eq!(found, known, "a file that reads the index for a caller checks the scope, and is listed here");
}
