//! TODO(charset)
