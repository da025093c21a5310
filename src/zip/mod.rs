//! Zip archives (APPNOTE.TXT 6.3.10): reading from a random-access source within limits, writing with a
//! length known ahead.

pub mod reader;
pub(crate) mod writer;
