//! URL paths, parsed into validated types (PS3.18 §10.1).

use std::str::FromStr;

use axum::extract::{FromRequestParts, RawPathParams};
use axum::http::request::Parts;

use crate::archive::scope::Scope;
use crate::dicom::uid::{InstanceUid, SeriesUid, StudyUid};
use crate::http::error::Error;
use crate::http::request::decoded;

/// The maximal number of frames in one request.
const MAX_FRAMES: usize = 100_000;

/// `studies/{study}[/series/{series}[/instances/{instance}]]`.
pub(crate) struct Target(pub(crate) Scope);

/// The study and series within which a search takes place, or into which instances are stored.
pub(crate) struct ParentPath {
    pub(crate) study: Option<StudyUid>,
    pub(crate) series: Option<SeriesUid>,
}

/// `studies/{study}/series/{series}/instances/{instance}`, with what follows it.
pub(crate) struct InstancePath {
    pub(crate) study: StudyUid,
    pub(crate) series: SeriesUid,
    pub(crate) instance: InstanceUid,
    /// The frame list (`{frames}`) or the path of a bulk value (`{path}`), percent-decoded; empty if there is
    /// neither.
    pub(crate) rest: String,
}

/// `shares/{share}`: the identifier of a share.
pub(crate) struct SharePath(pub(crate) String);

/// `s/{secret}`: the secret of a link.
pub(crate) struct LinkPath(pub(crate) String);

/// Whether a text can be the identifier of a share.
pub(crate) fn is_share_id(text: &str) -> bool {
    (1..=64).contains(&text.len()) && text.bytes().all(|byte| byte.is_ascii_hexdigit())
}

impl<S: Send + Sync> FromRequestParts<S> for SharePath {
    type Rejection = Error;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, Error> {
        let path = segments(parts, state).await?;
        let id = text(&path, "share").filter(|id| is_share_id(id)).ok_or(Error::NoResource)?;
        Ok(Self(id.to_owned()))
    }
}

impl<S: Send + Sync> FromRequestParts<S> for LinkPath {
    type Rejection = Error;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, Error> {
        let path = segments(parts, state).await?;
        Ok(Self(text(&path, "secret").unwrap_or_default().to_owned()))
    }
}

impl<S: Send + Sync> FromRequestParts<S> for Target {
    type Rejection = Error;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, Error> {
        let path = segments(parts, state).await?;
        let study = uid(&path, "study")?.ok_or_else(|| missing("study"))?;
        Ok(Self(Scope { study, series: uid(&path, "series")?, instance: uid(&path, "instance")? }))
    }
}

impl<S: Send + Sync> FromRequestParts<S> for ParentPath {
    type Rejection = Error;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, Error> {
        let path = segments(parts, state).await?;
        Ok(Self { study: uid(&path, "study")?, series: uid(&path, "series")? })
    }
}

impl<S: Send + Sync> FromRequestParts<S> for InstancePath {
    type Rejection = Error;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, Error> {
        let path = segments(parts, state).await?;
        Ok(Self {
            study: uid(&path, "study")?.ok_or_else(|| missing("study"))?,
            series: uid(&path, "series")?.ok_or_else(|| missing("series"))?,
            instance: uid(&path, "instance")?.ok_or_else(|| missing("instance"))?,
            rest: text(&path, "frames").or_else(|| text(&path, "path")).unwrap_or_default().to_owned(),
        })
    }
}

/// The study in a path: the segment after `studies`.
pub(in crate::http) fn study_in_path(path: &str) -> Option<StudyUid> {
    let (_, rest) = path.split_once("/studies/")?;
    decoded(rest.split('/').next().unwrap_or(rest)).parse().ok()
}

/// The study in the query of the URI service: the first value that is not empty.
pub(in crate::http) fn study_in_query(query: &str) -> Option<StudyUid> {
    let pairs = query.split('&').filter_map(|pair| pair.split_once('='));
    let values = pairs.filter(|(name, _)| decoded(name) == "studyUID").map(|(_, value)| decoded(value));
    values.map(|value| value.trim().to_owned()).find(|value| !value.is_empty())?.parse().ok()
}

/// Parses a list of frame numbers (from 1), in the order of the request (PS3.18 §10.1.6).
pub(crate) fn frame_numbers(list: &str) -> Result<Vec<u32>, Error> {
    let wrong = |reason: String| Error::Parameter { name: "frames".into(), reason };
    if list.split(',').count() > MAX_FRAMES {
        return Err(wrong(format!("more than {MAX_FRAMES} frames")));
    }
    let is_number = |text: &str| text.bytes().all(|byte| byte.is_ascii_digit());
    let numbers = list.split(',').map(|text| match text.trim().parse() {
        Ok(number) if number > 0 && is_number(text.trim()) => Ok(number),
        _ => Err(wrong(format!("`{}` is not a frame number from 1", shortened(text)))),
    });
    numbers.collect()
}

async fn segments<S: Send + Sync>(parts: &mut Parts, state: &S) -> Result<RawPathParams, Error> {
    let path = RawPathParams::from_request_parts(parts, state).await;
    path.map_err(|_| Error::Parameter { name: "path".into(), reason: "not UTF-8".into() })
}

fn text<'a>(path: &'a RawPathParams, name: &str) -> Option<&'a str> {
    path.iter().find(|(key, _)| *key == name).map(|(_, value)| value)
}

fn uid<U: FromStr>(path: &RawPathParams, name: &str) -> Result<Option<U>, Error>
where
    U::Err: ToString,
{
    let uid = text(path, name).map(str::parse).transpose();
    uid.map_err(|error: U::Err| Error::Parameter { name: name.into(), reason: error.to_string() })
}

fn missing(name: &str) -> Error {
    Error::Parameter { name: name.into(), reason: "is missing".into() }
}

/// The beginning of a client's text, short enough to be repeated in an error message.
fn shortened(text: &str) -> String {
    text.chars().take(40).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_study_is_read_as_the_handler_reads_it() {
        for (path, expected) in [
            ("/dicom-web/studies/1.2/series/3", Some("1.2")),
            ("/dicom-web/studies/1%2E2", Some("1.2")),
            ("/stream/studies/1.2/series/3/state", Some("1.2")),
            ("/dicom-web/studies", None),
            ("/dicom-web/studies/x", None),
        ] {
            assert_eq!(study_in_path(path).map(|study| study.to_string()).as_deref(), expected, "{path}");
        }
        for (query, expected) in [
            ("requestType=WADO&studyUID=1.2", Some("1.2")),
            ("studyUID=&studyUID=+1.2+&studyUID=3", Some("1.2")),
            ("study%55ID=1%2e2", Some("1.2")),
            ("studyuid=1.2", None),
        ] {
            assert_eq!(study_in_query(query).map(|study| study.to_string()).as_deref(), expected, "{query}");
        }
    }

    #[test]
    fn frame_zero_is_refused() {
        for list in ["0", "1,0", "-1", "", "1,", "x", "4294967296"] {
            assert!(frame_numbers(list).is_err(), "{list}");
        }
        assert_eq!(frame_numbers("3,1, 2").unwrap(), [3, 1, 2]);
    }
}
