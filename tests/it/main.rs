//! Integration tests against a server in this process, on temporary storage; a file for each group of URLs,
//! and one for DIMSE.

#![expect(clippy::unwrap_used, reason = "what fails here is a failed test")]

mod access;
mod architecture;
mod audit;
mod auth;
mod bombs;
#[path = "../../src/dicom/build.rs"]
#[expect(dead_code, reason = "its other parts are used by the unit tests that it is shared with")]
mod build;
mod capabilities;
mod changes;
mod check;
mod copy;
mod decoders;
mod delete;
mod dictionary;
mod digests;
mod dimse;
mod documents;
mod documents_name_files;
mod engine;
mod errors;
mod fairness;
#[path = "../../src/http/auth/fake_provider.rs"]
#[expect(dead_code, reason = "its other parts are used by the unit tests that it is shared with")]
mod fake_provider;
mod faults;
mod frames;
mod harness;
mod index_reads;
mod instances;
mod lost_objects;
mod metadata;
mod negotiation;
mod new_instances;
mod ops;
mod pictures;
mod recovery;
mod rendered;
mod restore;
mod scrub;
mod search;
mod shares;
mod store;
mod store_metadata;
mod store_zip;
mod stream;
mod testdata;
mod transcode;
mod usage;
mod view;
mod viewer;
mod wado_uri;
mod webhooks;
mod zip;
