//! TODO(keys)
