//! The position of an entry in a feed.

use serde::{Deserialize, Serialize};

/// The position of an entry in the feed of a tenant: its lane, and its number (from 1) in the lane.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct FeedPosition(pub u32, pub u64);
