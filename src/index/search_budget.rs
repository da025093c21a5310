//! The budget of one search, and its consideration for other tasks.

use std::time::{Duration, Instant};

/// The work that a search may do for each row that it may read, in bytes that are parsed or compared.
const BYTES_PER_ROW: u64 = 4096;
/// The number of sort keys that cost as much as a row.
const KEYS_PER_ROW: usize = 10;
/// The time after which a search yields to other tasks.
const YIELD_AFTER: Duration = Duration::from_millis(1);

/// The work that is left to a search: rows of the index to read, and bytes to parse and to compare with the
/// query.
pub(crate) struct SearchBudget {
    rows_left: usize,
    bytes_left: u64,
    /// The sort keys that were read and are not counted as a row.
    keys_read: usize,
    half_rows: usize,
    half_bytes: u64,
    is_exhausted: bool,
    last_yield: Instant,
}

impl SearchBudget {
    /// A budget of rows, and of work in proportion.
    pub(crate) fn new(max_rows: usize) -> Self {
        let bytes_left = (max_rows as u64).saturating_mul(BYTES_PER_ROW);
        Self {
            rows_left: max_rows,
            bytes_left,
            keys_read: 0,
            half_rows: max_rows / 2,
            half_bytes: bytes_left / 2,
            is_exhausted: false,
            last_yield: Instant::now(),
        }
    }

    /// Counts rows as read. Returns whether that many were left.
    pub(crate) fn spend_rows(&mut self, rows: usize) -> bool {
        self.is_exhausted |= self.rows_left < rows;
        self.rows_left = self.rows_left.saturating_sub(rows);
        !self.is_exhausted
    }

    /// Counts sort keys as read without their rows. Returns whether that many were left.
    pub(crate) fn spend_keys(&mut self, keys: usize) -> bool {
        self.keys_read += keys;
        let rows = self.keys_read / KEYS_PER_ROW;
        self.keys_read %= KEYS_PER_ROW;
        self.spend_rows(rows)
    }

    /// Whether half of the rows or half of the bytes are spent.
    pub(crate) fn is_half_spent(&self) -> bool {
        self.rows_left <= self.half_rows || self.bytes_left <= self.half_bytes
    }

    /// Counts bytes as parsed or compared. Returns whether that many were left.
    pub(crate) fn spend_bytes(&mut self, bytes: u64) -> bool {
        self.is_exhausted |= self.bytes_left < bytes;
        self.bytes_left = self.bytes_left.saturating_sub(bytes);
        !self.is_exhausted
    }

    /// The rows that may still be read.
    pub(crate) fn rows_left(&self) -> usize {
        self.rows_left
    }

    /// The bytes that may still be parsed or compared.
    pub(crate) fn bytes_left(&self) -> u64 {
        self.bytes_left
    }

    /// Whether the search must end.
    pub(crate) fn is_exhausted(&self) -> bool {
        self.is_exhausted
    }

    /// Yields to other tasks if the search has had its thread for a while: rows of a page are matched and
    /// encoded without a wait between them.
    pub(crate) async fn yield_to_others(&mut self) {
        if self.last_yield.elapsed() >= YIELD_AFTER {
            tokio::task::yield_now().await;
            self.last_yield = Instant::now();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_budget_is_exhausted_by_rows_or_by_bytes() {
        let mut rows = SearchBudget::new(2);
        assert!(rows.spend_rows(2) && !rows.is_exhausted());
        assert!(!rows.spend_rows(1) && rows.is_exhausted());
        let mut bytes = SearchBudget::new(2);
        assert!(bytes.spend_bytes(2 * BYTES_PER_ROW) && !bytes.is_exhausted());
        assert!(!bytes.spend_bytes(1) && !bytes.spend_rows(1));
    }
}
