//! TODO(search)
