//! Waits between attempts: each longer than the one before, and cut at random, so that clients that failed at
//! the same time do not retry at the same time.

use std::time::Duration;

/// Waits that double with each failed attempt.
#[derive(Debug, Clone, Copy)]
pub struct Backoff {
    first: Duration,
    longest: Duration,
}

impl Backoff {
    /// Waits of at most `first` after the first failed attempt, and of at most `longest` after any.
    pub const fn new(first: Duration, longest: Duration) -> Self {
        Self { first, longest }
    }

    /// The longest wait after so many failed attempts, counted from 1.
    pub fn limit(self, failed: u32) -> Duration {
        let factor = 2_u32.saturating_pow(failed.saturating_sub(1));
        self.first.saturating_mul(factor).min(self.longest)
    }

    /// A random wait after so many failed attempts, counted from 1.
    pub fn wait(self, failed: u32) -> Duration {
        jitter(self.limit(failed))
    }
}

/// A random wait of at most `limit`.
pub fn jitter(limit: Duration) -> Duration {
    limit.mul_f64(fastrand::f64())
}

#[cfg(test)]
mod tests {
    use super::*;

    const BACKOFF: Backoff = Backoff::new(Duration::from_millis(25), Duration::from_secs(2));

    #[test]
    fn limits_double_up_to_the_longest() {
        let limits: Vec<_> =
            [1, 2, 3, 7, 8, 40, u32::MAX].map(|failed| BACKOFF.limit(failed).as_millis()).into();
        assert_eq!(limits, [25, 50, 100, 1600, 2000, 2000, 2000]);
        let overflowing = Backoff::new(Duration::MAX, Duration::MAX);
        assert_eq!(overflowing.limit(u32::MAX), Duration::MAX);
    }

    #[test]
    fn waits_are_spread_up_to_the_limit() {
        let waits: Vec<_> = (0..1000).map(|_| BACKOFF.wait(3)).collect();
        assert!(waits.iter().all(|wait| *wait <= BACKOFF.limit(3)));
        let shorter = waits.iter().filter(|wait| **wait < BACKOFF.limit(2)).count();
        assert!((300..700).contains(&shorter), "half of the waits are below half of the limit: {shorter}");
    }
}
