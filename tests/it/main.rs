//! Integration tests: one binary, a file per URL group or door.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

mod dimse;
