//! The pace at which a client must send an instance.

use std::time::Duration;

/// The time that a client may let pass without a byte. Each byte adds to the time, up to a limit, so that the
/// client sends at a minimum average rate.
#[derive(Debug, Clone)]
pub struct Pace {
    limit: Duration,
    min_bytes_per_second: u64,
    credit: Duration,
}

impl Pace {
    /// A pace that begins with `limit`. A rate of 0 is no minimum.
    pub fn new(limit: Duration, min_bytes_per_second: u64) -> Self {
        Self { limit, min_bytes_per_second, credit: limit }
    }

    /// The time in which the next bytes must be there.
    pub fn allowance(&self) -> Duration {
        self.credit.min(self.limit)
    }

    /// Whether the average rate is at least the minimum. A client that is late all the same is silent.
    pub fn is_kept(&self) -> bool {
        self.credit >= self.limit
    }

    /// The minimum rate.
    pub fn min_bytes_per_second(&self) -> u64 {
        self.min_bytes_per_second
    }

    /// Counts bytes, and the time for which they were waited for.
    pub fn receive(&mut self, bytes: usize, waited: Duration) {
        let earned = match self.min_bytes_per_second {
            0 => self.limit,
            minimum => Duration::from_secs_f64(bytes as f64 / minimum as f64),
        };
        self.credit = (self.credit.saturating_sub(waited) + earned).min(self.limit);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_client_below_the_rate_runs_out_of_time() {
        let second = Duration::from_secs(1);
        for (rate, bytes_a_second, is_late) in [(1000, 900, true), (1000, 1000, false), (0, 1, false)] {
            let mut pace = Pace::new(10 * second, rate);
            for _ in 0..1000 {
                pace.receive(bytes_a_second, second);
            }
            assert_eq!(pace.allowance() < second, is_late, "{rate} {bytes_a_second}");
            assert_eq!(pace.is_kept(), !is_late);
        }
    }
}
