//! Query parameters of a URL, read into a [`Query`](super::Query) (PS3.18 §8.3.4).
