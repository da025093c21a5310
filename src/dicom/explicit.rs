//! TODO(explicit)
