//! `GET /admin/usage`: the usage of the caller's tenant. Not of the standard; see docs/usage.md.

use std::fmt::Write;
use std::sync::Arc;

use axum::body::Body;
use axum::extract::State;
use axum::http::Response;
use axum::http::header::{CACHE_CONTROL, CONTENT_TYPE, VARY};
use axum::response::IntoResponse;
use serde_json::{Value, json};

use crate::archive::access::Caller;
use crate::archive::usage::{Amount, DayUsage, TenantUsage};
use crate::audit::message;
use crate::clock::{MILLIS_OF_DAY, date, now_millis};
use crate::config::Plan;
use crate::http::Service;
use crate::http::error::Error;
use crate::http::request::Head;

/// The days before the last one without `from`.
const DEFAULT_DAYS: i64 = 30;
/// The most days between the first and the last.
const MAX_DAYS: i64 = 3660;
/// The media types, the default first.
const MEDIA_TYPES: [&str; 2] = ["application/json", "text/csv"];
/// The names of the columns of the CSV form.
const COLUMNS: &str = "date,tenant,stored_studies,stored_instances,stored_bytes,deleted_studies,\
                       deleted_instances,deleted_bytes,calls,sent_bytes";

/// The days that a client wants: the first and the last.
#[derive(Debug, PartialEq, Eq)]
struct Period {
    from: String,
    to: String,
}

impl Period {
    /// Reads the parameters; `now` is in milliseconds since 1970 UTC.
    fn of(pairs: &[(String, String)], tenant: &str, now: i64) -> Result<Self, Error> {
        let (mut from, mut to) = (None, None);
        for (name, value) in pairs {
            let wrong = |reason: &str| Error::Parameter { name: name.clone(), reason: reason.to_owned() };
            let day = || midnight(value).ok_or_else(|| wrong("is no date in the form of 2026-11-30"));
            match name.as_str() {
                "from" => from = Some(day()?),
                "to" => to = Some(day()?),
                "tenant" if value == tenant => {}
                "tenant" => return Err(wrong("is not the tenant of the caller")),
                "accept" => {}
                _ => return Err(wrong("is no parameter of usage")),
            }
        }
        let to = to.unwrap_or(now);
        let from = from.unwrap_or(to - DEFAULT_DAYS * MILLIS_OF_DAY);
        let wrong = |reason: String| Error::Parameter { name: "from".into(), reason };
        if date(from) > date(to) {
            return Err(wrong("is after `to`".into()));
        }
        if to - from > MAX_DAYS * MILLIS_OF_DAY {
            return Err(wrong(format!("is more than {MAX_DAYS} days before `to`")));
        }
        Ok(Self { from: date(from), to: date(to) })
    }
}

/// The beginning of a day, in milliseconds since 1970 UTC.
fn midnight(day: &str) -> Option<i64> {
    // A time of RFC 3339 is longer.
    message::time(day, false).filter(|at| date(*at) == day)
}

/// `GET /admin/usage[?from=][&to=][&tenant=]`, as JSON or CSV.
pub(in crate::http) async fn usage(
    State(service): State<Arc<Service>>,
    caller: Caller,
    head: Head,
) -> Result<Response<Body>, Error> {
    let refused = || Error::NotAcceptable(format!("Accept: can be {}", MEDIA_TYPES.join(", ")));
    let (chosen, is_multipart) = head.accept().choose_type(&MEDIA_TYPES).ok_or_else(refused)?;
    if is_multipart {
        return Err(refused());
    }
    let tenant = caller.tenant.as_str();
    let period = Period::of(&head.query_pairs(), tenant, now_millis())?;
    let usage = service.archive.usage(&caller, &period.from, &period.to).await?;
    let plan = service.archive.plan(&caller);
    let text = if chosen == 0 { in_json(tenant, &period, &usage, plan) } else { in_csv(tenant, &usage) };
    let media_type = MEDIA_TYPES[chosen];
    let headers = [(CONTENT_TYPE, media_type), (CACHE_CONTROL, "no-store"), (VARY, "Accept")];
    Ok((headers, text).into_response())
}

fn in_json(tenant: &str, period: &Period, usage: &TenantUsage, plan: Option<&Plan>) -> String {
    let amount = |amount: &Amount| {
        let Amount { studies, instances, bytes } = amount;
        json!({ "studies": studies, "instances": instances, "bytes": bytes })
    };
    let day = |(date, day): (&String, &DayUsage)| {
        json!({
            "date": date,
            "stored": amount(&day.turnover.stored),
            "deleted": amount(&day.turnover.deleted),
            "calls": day.traffic.calls,
            "sent_bytes": day.traffic.sent_bytes,
        })
    };
    let body = json!({
        "tenant": tenant,
        "plan": plan.map(|Plan { name, studies, instances, bytes }| {
            json!({ "name": name, "studies": studies, "instances": instances, "bytes": bytes })
        }),
        "stored": usage.stored.as_ref().map(amount),
        "from": period.from,
        "to": period.to,
        "days": usage.days.iter().map(day).collect::<Vec<Value>>(),
    });
    body.to_string()
}

fn in_csv(tenant: &str, usage: &TenantUsage) -> String {
    let mut text = format!("{COLUMNS}\r\n");
    for (date, day) in &usage.days {
        let amounts = [day.turnover.stored, day.turnover.deleted];
        let amounts = amounts.map(|Amount { studies, instances, bytes }| [studies, instances, bytes]);
        let traffic = [day.traffic.calls, day.traffic.sent_bytes];
        let numbers: Vec<String> =
            amounts.iter().flatten().chain(&traffic).map(|number| number.to_string()).collect();
        // No error is possible: the text is in memory. Dates and tenants need no quotation marks.
        let _ = write!(text, "{date},{tenant},{}\r\n", numbers.join(","));
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    /// 2024-02-29 12:34 UTC.
    const NOW: i64 = 1_709_210_040_000;

    fn period(query: &[(&str, &str)]) -> Result<Period, String> {
        let pairs: Vec<_> =
            query.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
        Period::of(&pairs, "clinic-a", NOW).map_err(|error| error.to_string())
    }

    #[test]
    fn a_period_is_of_whole_days_and_errors_name_the_parameter() {
        for (query, from, to) in [
            (&[][..], "2024-01-30", "2024-02-29"),
            (&[("from", "2024-02-29")], "2024-02-29", "2024-02-29"),
            (&[("to", "2024-01-31"), ("tenant", "clinic-a")], "2024-01-01", "2024-01-31"),
            (&[("from", "2020-01-01"), ("to", "2020-01-01")], "2020-01-01", "2020-01-01"),
        ] {
            let expected = Period { from: from.into(), to: to.into() };
            assert_eq!(period(query), Ok(expected), "{query:?}");
        }
        for (name, value) in [
            ("from", "2024-02-30"),
            ("from", "2024-03-01"),
            ("from", "2000-01-01"),
            ("from", "2024-02-29T00:00:00Z"),
            ("to", "yesterday"),
            ("tenant", "clinic-b"),
            ("tenant", ""),
            ("form", "2024-02-01"),
        ] {
            let error = period(&[(name, value)]).unwrap_err();
            assert!(error.starts_with(&format!("{name} ")), "{name}={value}: {error}");
        }
    }

    #[test]
    fn both_forms_have_the_same_figures() {
        let mut usage = TenantUsage { stored: Some((1, 2, 3).into()), ..TenantUsage::default() };
        let mut day = DayUsage::default();
        (day.turnover.stored, day.turnover.deleted) = ((4, 5, 6).into(), (7, 8, 9).into());
        (day.traffic.calls, day.traffic.sent_bytes) = (10, 11);
        usage.days.insert("2024-02-29".into(), day);
        let csv = in_csv("clinic-a", &usage);
        assert_eq!(csv, format!("{COLUMNS}\r\n2024-02-29,clinic-a,4,5,6,7,8,9,10,11\r\n"));
        let json: Value =
            serde_json::from_str(&in_json("clinic-a", &period(&[]).unwrap(), &usage, None)).unwrap();
        assert_eq!(json["stored"], json!({ "studies": 1, "instances": 2, "bytes": 3 }));
        assert_eq!(json["days"][0]["deleted"], json!({ "studies": 7, "instances": 8, "bytes": 9 }));
        assert_eq!((&json["days"][0]["calls"], &json["days"][0]["sent_bytes"]), (&json!(10), &json!(11)));
    }
}
