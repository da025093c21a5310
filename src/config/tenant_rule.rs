//! The rules by which AE titles stand for tenants (setting `dimse.tenants`).

use serde::Deserialize;

use crate::config::Tenant;

/// An entry of `dimse.tenants`: `CALLING=tenant`, `CALLING@CALLED=tenant` or `*@CALLED=tenant`.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(try_from = "String")]
pub struct TenantRule {
    /// The calling AE title; any if there is none.
    calling: Option<String>,
    /// The called AE title; any if there is none.
    called: Option<String>,
    /// The tenant.
    pub tenant: Tenant,
}

impl TenantRule {
    /// Whether the rule is for a pair of AE titles.
    pub fn matches(&self, calling: &str, called: &str) -> bool {
        self.calling.as_deref().is_none_or(|title| title == calling)
            && self.called.as_deref().is_none_or(|title| title == called)
    }

    /// The precedence of the rule among those that match, the greatest first: a rule that names the calling
    /// title comes before one that names only the called title.
    pub fn specificity(&self) -> (bool, bool) {
        (self.calling.is_some(), self.called.is_some())
    }
}

/// The tenant for which a pair of AE titles stands; `None` if no rule matches.
pub fn tenant_of(rules: &[TenantRule], calling: &str, called: &str) -> Option<Tenant> {
    let matching = rules.iter().filter(|rule| rule.matches(calling, called));
    matching.max_by_key(|rule| rule.specificity()).map(|rule| rule.tenant.clone())
}

/// A text that is no rule.
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_names_no_title_or_no_tenant_is_no_rule() {
        for text in ["", "CT", "CT=", "=a", "*=a", "*@=a", "*@*=a", "CT@=a", "@WEST=a", "CT=A", "CT=a/b"] {
            assert!(TenantRule::try_from(text.to_owned()).is_err(), "{text}");
        }
    }
}
