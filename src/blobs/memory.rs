//! Objects in memory, for tests.
