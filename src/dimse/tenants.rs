//! Whose device calls: AE titles to tenants, by the setting `dimse.tenants`.

use serde::Deserialize;

use crate::archive::access::{Caller, Rights, Tenant};
use crate::config::Config;

/// An entry of `dimse.tenants`: `CALLING=tenant`, `CALLING@CALLED=tenant` or `*@CALLED=tenant`.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(try_from = "String")]
pub struct TenantRule {
    /// The calling AE title; any if there is none.
    calling: Option<String>,
    /// The called AE title; any if there is none.
    called: Option<String>,
    tenant: Tenant,
}

/// Text that is no entry.
#[derive(Debug, thiserror::Error)]
#[error(
    "`{0}` cannot be in dimse.tenants: an entry is CALLING=tenant, CALLING@CALLED=tenant or *@CALLED=tenant"
)]
pub struct NotATenantRule(String);

impl TryFrom<String> for TenantRule {
    type Error = NotATenantRule;

    fn try_from(text: String) -> Result<Self, NotATenantRule> {
        read(&text).ok_or(NotATenantRule(text))
    }
}

fn read(text: &str) -> Option<TenantRule> {
    let (titles, tenant) = text.rsplit_once('=')?;
    let (calling, called) = match titles.split_once('@') {
        Some((calling, called)) => (calling.trim(), Some(called.trim())),
        None => (titles.trim(), None),
    };
    let calling = (calling != "*").then_some(calling);
    let is_title = |title: &str| !title.is_empty() && title != "*";
    let are_titles = calling.into_iter().chain(called).all(is_title);
    if !are_titles || (calling.is_none() && called.is_none()) {
        return None;
    }
    let tenant = tenant.trim().parse().ok()?;
    Some(TenantRule { calling: calling.map(str::to_owned), called: called.map(str::to_owned), tenant })
}

/// Who may call, and for whom.
#[derive(Debug, Clone)]
pub struct Callers {
    /// The rules; none if the server knows one tenant only.
    rules: Option<Vec<TenantRule>>,
}

impl Callers {
    /// Those that the settings name.
    pub fn of(config: &Config) -> Self {
        Self { rules: config.auth.is_on().then(|| config.dimse.tenants.clone()) }
    }

    /// The caller that a pair of AE titles stands for; `None` if it stands for nobody.
    pub fn find(&self, calling: &str, called: &str) -> Option<Caller> {
        let Some(rules) = &self.rules else { return Some(Caller::anonymous()) };
        let suits = |rule: &&TenantRule| {
            rule.calling.as_deref().is_none_or(|title| title == calling)
                && rule.called.as_deref().is_none_or(|title| title == called)
        };
        let rule =
            rules.iter().filter(suits).max_by_key(|rule| (rule.calling.is_some(), rule.called.is_some()))?;
        Some(Caller { tenant: rule.tenant.clone(), subject: calling.into(), rights: Rights::OF_DEVICES })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn callers(rules: &[&str]) -> Callers {
        Callers { rules: Some(rules.iter().map(|text| text.to_string().try_into().unwrap()).collect()) }
    }

    #[test]
    fn the_rule_that_names_most_decides() {
        let callers = callers(&["CT = a", "*@WEST=b", "CT@WEST=c", "X RAY@CUSPID=d", "A=B=e"]);
        for (calling, called, expected) in [
            ("CT", "CUSPID", Some("a")),
            ("CT", "WEST", Some("c")),
            ("MR", "WEST", Some("b")),
            ("X RAY", "CUSPID", Some("d")),
            ("A=B", "CUSPID", Some("e")),
            ("X RAY", "EAST", None),
            ("MR", "CUSPID", None),
            ("ct", "CUSPID", None),
            ("", "", None),
        ] {
            let found = callers.find(calling, called).map(|caller| caller.tenant.as_str().to_owned());
            assert_eq!(found.as_deref(), expected, "{calling}@{called}");
        }
    }

    #[test]
    fn what_names_no_title_or_no_tenant_is_no_rule() {
        for text in ["", "CT", "CT=", "=a", "*=a", "*@=a", "*@*=a", "CT@=a", "@WEST=a", "CT=A", "CT=a/b"] {
            assert!(TenantRule::try_from(text.to_owned()).is_err(), "{text}");
        }
    }

    #[test]
    fn devices_store_and_do_not_delete() {
        let caller = callers(&["CT=a"]).find("CT", "CUSPID").unwrap();
        assert_eq!(caller.rights, Rights::OF_DEVICES);
        assert_eq!(&*caller.subject, "CT");
    }

    #[test]
    fn without_authentication_everyone_is_the_same() {
        let caller = Callers::of(&Config::defaults()).find("ANY", "OTHER").unwrap();
        assert_eq!(caller.tenant, Tenant::default_tenant());
    }
}
