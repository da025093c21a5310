//! Integration tests: one binary, a file for each group of URLs or door.

mod dimse;
