//! The system clock.

use std::time::SystemTime;

/// The time since the Unix epoch (1970-01-01 00:00 UTC), in milliseconds.
///
/// The time may go backwards when the system clock is set. A time before the epoch reads as 0.
pub fn now_millis() -> i64 {
    let elapsed = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    i64::try_from(elapsed.as_millis()).unwrap_or(i64::MAX)
}
