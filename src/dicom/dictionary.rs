//! TODO(dictionary)
