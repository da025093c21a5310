//! Pages for people: the built-in console and the OHIF viewer.

pub(in crate::http) mod console;
pub(in crate::http) mod viewer;
