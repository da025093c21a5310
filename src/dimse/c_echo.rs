//! C-ECHO as SCP (PS3.7 §9.1.5, PS3.4 §A).

use crate::dimse::command::Status;

/// Answers a C-ECHO-RQ: being able to answer is all there is to verify.
pub fn echo() -> Status {
    Status::SUCCESS
}
