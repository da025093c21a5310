//! Links of shares: their page, and what the page requests. See docs/sharing.md.
//!
//! The secret of a link is in its path alone, and in the bodies of the requests of its page: it is in no log,
//! and no other site learns it.

use std::sync::Arc;

use axum::Extension;
use axum::body::Body;
use axum::extract::State;
use axum::http::{Response, StatusCode};
use serde::Deserialize;
use serde_json::{Value, json};

use crate::archive::share_links::{FoundLink, OpenedLink};
use crate::archive::shares::ShareState;
use crate::clock::{now_millis, rfc3339};
use crate::config::SharedName;
use crate::dicom::attributes::{Attribute, PersonName, Value as DicomValue};
use crate::dicom::tags;
use crate::http::Service;
use crate::http::auth::credentials;
use crate::http::error::Error;
use crate::http::middleware::forwarding::ClientAddress;
use crate::http::request::path::LinkPath;
use crate::http::request::{Head, json_body};
use crate::http::sharing::shares::{answer, mode};
use crate::http::web::{console, view};

/// The most characters of a secret or a code that is looked at.
const MAX_CHARACTERS: usize = 200;

/// The body of the requests of a link's page.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct LinkForm {
    secret: String,
    #[serde(default)]
    code: Option<String>,
}

/// `GET /s/{secret}`: the page of a link, with the status of the link.
pub(in crate::http) async fn page(
    State(service): State<Arc<Service>>,
    LinkPath(secret): LinkPath,
) -> Result<Response<Body>, Error> {
    let status = match found(&service, &secret).await? {
        None => StatusCode::NOT_FOUND,
        Some(link) if link.state != ShareState::Open => StatusCode::GONE,
        Some(_) => StatusCode::OK,
    };
    Ok(console::share_page(status, view::is_installed(&service).await))
}

/// `POST /s/about`: the state of a link, and what it opens, unless a code is needed first.
pub(in crate::http) async fn about(
    State(service): State<Arc<Service>>,
    head: Head,
    body: Body,
) -> Result<Response<Body>, Error> {
    let form: LinkForm = json_body::read(&service, &head, body).await?;
    Ok(match found(&service, &form.secret).await? {
        None => closed(StatusCode::NOT_FOUND, "unknown"),
        Some(link) if link.state != ShareState::Open => closed(StatusCode::GONE, link.state.name()),
        Some(link) => {
            let needs_code = link.record.code.is_some();
            let study = if needs_code { Value::Null } else { described(&service, &link) };
            let body = json!({
                "state": link.state.name(),
                "needs_code": needs_code,
                "mode": mode(&link.record),
                "expires_at": rfc3339(link.record.expires_at),
                "study": study,
            });
            answer(StatusCode::OK, &body)
        }
    })
}

/// `POST /s/open`: opens a link, with its code if it has one. This counts as a use. The answer has the token
/// by which what is shared can be read.
pub(in crate::http) async fn open(
    State(service): State<Arc<Service>>,
    address: Option<Extension<ClientAddress>>,
    head: Head,
    body: Body,
) -> Result<Response<Body>, Error> {
    let form: LinkForm = json_body::read(&service, &head, body).await?;
    let address = address.map(|Extension(ClientAddress(address))| address.to_string()).unwrap_or_default();
    let is_usable = |text: &str| text.chars().count() <= MAX_CHARACTERS;
    let code = form.code.as_deref().filter(|code| is_usable(code));
    let opened = match is_usable(&form.secret) {
        true => service.archive.open_link(&form.secret, code, &address).await?,
        false => OpenedLink::NotFound,
    };
    Ok(match opened {
        OpenedLink::Opened(link) => capability_of(&service, &link).await?,
        OpenedLink::WrongCode { left } => {
            answer(StatusCode::FORBIDDEN, &json!({ "state": "wrong-code", "left": left }))
        }
        OpenedLink::TooManyTries => closed(StatusCode::TOO_MANY_REQUESTS, "too-many-tries"),
        OpenedLink::Closed(state) => closed(StatusCode::GONE, state.name()),
        OpenedLink::NotFound => closed(StatusCode::NOT_FOUND, "unknown"),
    })
}

async fn found(service: &Service, secret: &str) -> Result<Option<FoundLink>, Error> {
    if secret.chars().count() > MAX_CHARACTERS {
        return Ok(None);
    }
    Ok(service.archive.find_link(secret).await?)
}

fn closed(status: StatusCode, state: &str) -> Response<Body> {
    answer(status, &json!({ "state": state }))
}

/// The answer to a link that was opened.
async fn capability_of(service: &Service, link: &FoundLink) -> Result<Response<Body>, Error> {
    let FoundLink { tenant, record, .. } = link;
    let minutes = i64::try_from(service.archive.sharing().session_minutes).unwrap_or(i64::MAX);
    let end = now_millis().saturating_add(minutes.saturating_mul(60_000)).min(record.expires_at);
    let token = credentials::capability(&service.archive, tenant, &record.id, end.div_euclid(1000)).await?;
    let objects = &record.objects;
    let body = json!({
        "token": token,
        "share": record.id,
        "expires_at": rfc3339(end),
        "mode": mode(record),
        "study_uid": objects.study.as_str(),
        "series_uid": objects.series.as_ref().map(|series| series.as_str()),
        "is_list": objects.is_list(),
        "study": described(service, link),
    });
    Ok(answer(StatusCode::OK, &body))
}

/// What the page says of a study.
fn described(service: &Service, link: &FoundLink) -> Value {
    let text = |tag| link.attributes.get(&tag).and_then(Attribute::first_text).unwrap_or_default();
    let name = link.attributes.get(&tags::PATIENT_NAME).and_then(|name| name.values.first());
    let name = match name {
        Some(DicomValue::Name(name)) => as_people_write(name),
        _ => "",
    };
    let parts: Vec<&str> = name.split(['^', ' ']).filter(|part| !part.is_empty()).collect();
    let patient = match service.archive.sharing().patient_name {
        SharedName::Full => parts.join(" "),
        SharedName::Initials => {
            let initials = parts.iter().filter_map(|part| part.chars().next());
            initials.map(|initial| format!("{initial}.")).collect::<Vec<_>>().join(" ")
        }
        SharedName::None => String::new(),
    };
    json!({ "patient": patient, "date": text(tags::STUDY_DATE), "modalities": link.modalities })
}

/// The group of a name that its bearer writes: Hangul, which DICOM takes for phonetic (PS3.5 §I.2), else the
/// ideographic one, else the alphabetic one.
fn as_people_write(name: &PersonName) -> &str {
    let is_hangul = |character: char| ('가'..='힣').contains(&character);
    let groups = [&name.phonetic, &name.ideographic];
    let written = groups.into_iter().find(|group| group.chars().any(is_hangul));
    let ideographic = Some(&name.ideographic).filter(|group| !group.is_empty());
    written.or(ideographic).unwrap_or(&name.alphabetic)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_is_shown_as_its_bearer_writes_it() {
        for (groups, expected) in [
            (["Hong^Gildong", "洪^吉洞", "홍^길동"], "홍^길동"),
            (["Hong^Gildong", "홍^길동", ""], "홍^길동"),
            (["Yamada^Tarou", "山田^太郎", "やまだ^たろう"], "山田^太郎"),
            (["Doe^Jane", "", ""], "Doe^Jane"),
            (["", "", ""], ""),
        ] {
            let [alphabetic, ideographic, phonetic] = groups.map(str::to_owned);
            assert_eq!(as_people_write(&PersonName { alphabetic, ideographic, phonetic }), expected);
        }
    }
}
