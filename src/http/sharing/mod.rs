//! Shares, their links, and signed URLs.

pub(in crate::http) mod links;
pub(in crate::http) mod shares;
pub(in crate::http) mod sign;
