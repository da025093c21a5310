//! Responses: bodies in ranges and parts, media types, compression, header fields.

pub(in crate::http) mod compressed_buffer;
pub(in crate::http) mod frame_list;
pub(in crate::http) mod holding_body;
pub(in crate::http) mod instance;
pub(in crate::http) mod media_types;
pub(in crate::http) mod multipart;
pub(in crate::http) mod negotiation;
pub(in crate::http) mod ranged;
