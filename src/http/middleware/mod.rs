//! Middleware: what is done for every request and every response, whatever the resource.

pub(in crate::http) mod concurrency_limit;
pub(in crate::http) mod every_answer;
mod normalize_path;
mod unread_body;
pub(in crate::http) mod write_timeout;
