//! TODO(previews)
