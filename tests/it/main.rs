//! Integration tests: one binary, a file per URL group or door.

mod dimse;
