//! The callers that AE titles stand for (setting `dimse.tenants`).

use crate::archive::access::{Caller, Rights};
use crate::config::{Config, TenantRule};

/// The callers of associations: devices, known by their AE titles.
#[derive(Debug, Clone)]
pub struct Callers {
    /// The rules; `None` without authentication, where there is one tenant.
    rules: Option<Vec<TenantRule>>,
}

impl Callers {
    /// The callers that the settings name.
    pub fn of(config: &Config) -> Self {
        Self { rules: config.auth.is_on().then(|| config.dimse.tenants.clone()) }
    }

    /// Whether callers are known by their AE titles.
    pub fn are_authenticated(&self) -> bool {
        self.rules.is_some()
    }

    /// The caller that a pair of AE titles stands for; `None` if no rule matches.
    pub fn find(&self, calling: &str, called: &str) -> Option<Caller> {
        let Some(rules) = &self.rules else {
            return Some(Caller { subject: calling.trim().into(), ..Caller::anonymous() });
        };
        let matching = rules.iter().filter(|rule| rule.matches(calling, called));
        let rule = matching.max_by_key(|rule| rule.specificity())?;
        let (tenant, subject) = (rule.tenant.clone(), calling.trim().into());
        let rights = Rights::OF_DEVICES;
        Some(Caller { tenant, subject, client: "".into(), rights, is_background: false })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Tenant;

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
