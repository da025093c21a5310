//! The parameters by which a client requests de-identified copies: `anonymize`, which PS3.18 §9.4 has for the
//! URI service and this server has for instances everywhere, and `anonymize-options` (PS3.15 §E.3).

use axum::extract::Request;
use axum::http::Uri;
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};

use crate::config::ProfileOption;
use crate::http::error::Error;
use crate::http::request::{Head, query_pairs};

/// The name of the parameter.
pub(in crate::http) const ANONYMIZE: &str = "anonymize";
const OPTIONS: &str = "anonymize-options";

/// A request for de-identified copies.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(in crate::http) struct Anonymize {
    /// The options; `None` for those of the settings.
    pub(in crate::http) options: Option<Vec<ProfileOption>>,
}

impl Anonymize {
    /// The request of a query; `None` if the query does not ask for copies.
    ///
    /// # Errors
    /// Any value but `yes`, and options that do not exist or exclude each other: a client that requests an
    /// instance without names must not get one with names.
    pub(in crate::http) fn of(head: &Head) -> Result<Option<Self>, Error> {
        Self::of_pairs(&head.query_pairs())
    }

    fn of_pairs(pairs: &[(String, String)]) -> Result<Option<Self>, Error> {
        let values = |name: &str| {
            let values = pairs.iter().filter(|(key, _)| key == name);
            values.map(|(_, value)| value.trim().to_owned()).collect::<Vec<_>>()
        };
        if let Some(name) = misspelt(pairs) {
            return Err(wrong(&name, "is written `anonymize` and `anonymize-options`"));
        }
        let (requested, options) = (values(ANONYMIZE), values(OPTIONS));
        if requested.is_empty() {
            return match options.is_empty() {
                true => Ok(None),
                false => Err(wrong(OPTIONS, "needs anonymize=yes")),
            };
        }
        if requested.iter().any(|value| value != "yes") {
            return Err(wrong(ANONYMIZE, "is not `yes`"));
        }
        let named = options.iter().flat_map(|list| list.split(',')).map(str::trim);
        let named = named.filter(|name| !name.is_empty() && *name != "none");
        let read = named
            .map(|name| name.parse::<ProfileOption>().map_err(|error| wrong(OPTIONS, &error.to_string())))
            .collect::<Result<Vec<_>, _>>()?;
        let has = |option| read.contains(&option);
        if has(ProfileOption::RetainFullDates) && has(ProfileOption::RetainModifiedDates) {
            return Err(wrong(OPTIONS, "cannot have both retain-full-dates and retain-modified-dates"));
        }
        Ok(Some(Self { options: (!options.is_empty()).then_some(read) }))
    }
}

/// Middleware of operations that give nothing de-identified: refuses the parameters.
pub(in crate::http) async fn refuse(request: Request, next: Next) -> Response {
    if is_in(request.uri()) {
        let reason = "is for instances as application/dicom or application/zip, and not for this resource";
        return wrong(ANONYMIZE, reason).into_response();
    }
    next.run(request).await
}

fn is_in(uri: &Uri) -> bool {
    let pairs = query_pairs(uri.query());
    pairs.iter().any(|(name, _)| name == ANONYMIZE || name == OPTIONS) || misspelt(&pairs).is_some()
}

/// The first parameter that is `anonymize` or `anonymize-options` in another spelling: the case of letters
/// counts in names, parameters are separated by `&` alone, and a mistake must not show names of patients.
fn misspelt(pairs: &[(String, String)]) -> Option<String> {
    const OTHERS: [&str; 4] = ["deidentify", "deidentified", "de-identify", "de-identified"];
    let is_meant = |name: &str| {
        let lower = name.to_ascii_lowercase();
        lower.contains("anonym") || OTHERS.contains(&lower.trim())
    };
    let is_other = |name: &str| is_meant(name) && name != ANONYMIZE && name != OPTIONS;
    let mut names = pairs.iter().map(|(name, _)| name.as_str());
    let after_semicolons = pairs.iter().flat_map(|(_, value)| value.split(';').skip(1));
    let mut hidden = after_semicolons.map(|piece| piece.split('=').next().unwrap_or_default());
    let found = names.find(|name| is_other(name)).or_else(|| hidden.find(|name| is_meant(name)));
    found.map(str::to_owned)
}

fn wrong(name: &str, reason: &str) -> Error {
    Error::Parameter { name: name.chars().take(40).collect(), reason: reason.into() }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(query: &str) -> Result<Option<Option<Vec<ProfileOption>>>, String> {
        let outcome = Anonymize::of_pairs(&query_pairs(Some(query)));
        outcome.map(|found| found.map(|found| found.options)).map_err(|error| error.to_string())
    }

    #[test]
    fn nothing_is_given_as_it_is_to_who_asks_for_no_names() {
        assert_eq!(of("x=1"), Ok(None));
        assert_eq!(of("anonymize=yes"), Ok(Some(None)));
        let two = Some(vec![ProfileOption::RetainUids, ProfileOption::RetainFullDates]);
        assert_eq!(of("anonymize=yes&anonymize-options=retain-uids,retain-full-dates"), Ok(Some(two)));
        assert_eq!(of("anonymize=yes&anonymize-options=none"), Ok(Some(Some(vec![]))));
        for wrong in [
            "anonymize=no",
            "anonymize=",
            "anonymize",
            "%20anonymize=yes",
            "%EF%BB%BFanonymize=yes",
            "x=1;anonymize=yes",
            ";anonymize=yes",
            "deidentify=yes",
            "anonymize=Yes",
            "anonymize=yes&anonymize=no",
            "anonymise=yes",
            "Anonymize=yes",
            "anonymized=yes",
            "anonymize-options=retain-uids",
            "anonymize=yes&anonymize-options=retain-names",
            "anonymize=yes&anonymize-options=retain-full-dates,retain-modified-dates",
        ] {
            assert!(of(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn other_resources_refuse_the_parameters() {
        for (query, expected) in [
            ("", false),
            ("anonymize=yes", true),
            ("anonymize=", true),
            ("Anonymize=yes", true),
            ("PatientName=anonym*", false),
            ("DeidentificationMethod=x", false),
        ] {
            assert_eq!(is_in(&format!("/x?{query}").parse().unwrap()), expected, "{query}");
        }
    }
}
