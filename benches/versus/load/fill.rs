//! Many small instances, made of one file while they are sent.

use std::io::{Error, Result};
use std::ops::Range;

use crate::http::Connection;
use crate::{Report, run};

/// The text in the file that becomes the number of the study, in all UIDs and other values that hold it.
const STUDY: &[u8; 7] = b"1000000";
/// The end of the SOP Instance UID, whose digits become the number of the instance.
const INSTANCE: &[u8; 5] = b".1.10";

/// Stores studies of so many instances each (at most 90), a request for each study.
pub(crate) fn fill(
    address: &str,
    path: &str,
    connections: usize,
    studies: Range<usize>,
    instances: usize,
    template: &str,
) -> Result<Report> {
    let template = std::fs::read(template)?;
    if places(&template, STUDY).is_empty() || places(&template, INSTANCE).is_empty() || instances > 90 {
        return Err(Error::other("the file has no numbers to replace, or there are too many instances"));
    }
    let studies: Vec<usize> = studies.collect();
    run(&studies, connections, || {
        let mut connection = Connection::open(address)?;
        let template = template.clone();
        Ok(move |study: &usize| {
            let files: Vec<_> = (0..instances).map(|number| instance(&template, *study, number)).collect();
            connection.post(path, &files)
        })
    })
}

/// The file as an instance of its own.
fn instance(template: &[u8], study: usize, number: usize) -> Vec<u8> {
    let mut file = template.to_vec();
    for at in places(template, INSTANCE) {
        file[at + 3..at + 5].copy_from_slice(format!("{}", 10 + number).as_bytes());
    }
    for at in places(template, STUDY) {
        file[at..at + 7].copy_from_slice(format!("{}", 1_000_000 + study).as_bytes());
    }
    file
}

fn places(bytes: &[u8], text: &[u8]) -> Vec<usize> {
    let windows = bytes.windows(text.len()).enumerate();
    windows.filter(|(_, window)| *window == text).map(|(at, _)| at).collect()
}
