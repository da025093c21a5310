//! C-ECHO as SCP (PS3.7 §9.1.5, PS3.4 §A).

use crate::dimse::command::Status;

/// Answers a C-ECHO-RQ: the response itself verifies the connection.
pub fn echo() -> Status {
    Status::SUCCESS
}
