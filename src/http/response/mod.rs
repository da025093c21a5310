//! Responses: bodies in ranges and parts, media types, compression.

pub(in crate::http) mod compressed_buffer;
pub(in crate::http) mod media_types;
pub(in crate::http) mod multipart;
pub(in crate::http) mod ranged;
