//! Section `[quotas]`: plans with limits, and the tenants that have them.

use anyhow::ensure;
use serde::Deserialize;

use crate::config::Tenant;

/// The units of bytes, as powers of 1000.
const UNITS: [(&str, u64); 5] =
    [("TB", 1_000_000_000_000), ("GB", 1_000_000_000), ("MB", 1_000_000), ("KB", 1000), ("B", 1)];

/// Section `[quotas]`.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
#[expect(missing_docs, reason = "config.default.toml describes each setting")]
pub struct QuotasSettings {
    pub plans: Vec<Plan>,
    pub tenants: Vec<PlanRule>,
    pub warn_percent: u64,
    pub refresh_seconds: u64,
}

/// An entry of `quotas.plans`: a name, and limits as `basic bytes=100GB studies=10000`.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(try_from = "String")]
pub struct Plan {
    /// The name.
    pub name: String,
    /// The most bytes of originals; `None` for no limit.
    pub bytes: Option<u64>,
    /// The most studies; `None` for no limit.
    pub studies: Option<u64>,
    /// The most instances; `None` for no limit.
    pub instances: Option<u64>,
}

/// An entry of `quotas.tenants`: `tenant=plan`, or `*=plan` for all other tenants.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(try_from = "String")]
pub struct PlanRule {
    /// The tenant; `None` for all that no other entry names.
    tenant: Option<Tenant>,
    /// The name of the plan.
    plan: String,
}

/// A text that is no plan or no rule.
#[derive(Debug, thiserror::Error)]
#[error("{setting} cannot have `{entry}`: {reason}")]
pub struct NotAPlan {
    setting: &'static str,
    entry: String,
    reason: String,
}

impl QuotasSettings {
    /// The plan of a tenant; `None` for a tenant without limits.
    pub fn plan_of(&self, tenant: &Tenant) -> Option<&Plan> {
        let named = self.tenants.iter().find(|rule| rule.tenant.as_ref() == Some(tenant));
        let rule = named.or_else(|| self.tenants.iter().find(|rule| rule.tenant.is_none()))?;
        self.plans.iter().find(|plan| plan.name == rule.plan)
    }

    pub(super) fn validate(&self) -> anyhow::Result<()> {
        for (at, plan) in self.plans.iter().enumerate() {
            let is_first = self.plans.iter().take(at).all(|other| other.name != plan.name);
            ensure!(is_first, "quotas.plans has the plan `{}` twice", plan.name);
        }
        for (at, rule) in self.tenants.iter().enumerate() {
            let name = rule.tenant.as_ref().map_or("*", Tenant::as_str);
            let entry = format!("{name}={}", rule.plan);
            let has_plan = self.plans.iter().any(|plan| plan.name == rule.plan);
            ensure!(has_plan, "quotas.tenants cannot have `{entry}`: no plan has this name (quotas.plans)");
            let is_first = self.tenants.iter().take(at).all(|other| other.tenant != rule.tenant);
            ensure!(is_first, "quotas.tenants cannot have `{entry}`: `{name}` occurs twice");
        }
        let warn = self.warn_percent;
        ensure!((1..=100).contains(&warn), "quotas.warn_percent cannot be {warn}: it is 1 to 100");
        Ok(())
    }
}

impl TryFrom<String> for Plan {
    type Error = NotAPlan;

    fn try_from(entry: String) -> Result<Self, NotAPlan> {
        let wrong = |reason: String| NotAPlan { setting: "quotas.plans", entry: entry.clone(), reason };
        let mut words = entry.split_whitespace();
        let name = words.next().filter(|name| !name.contains('='));
        let name = name.ok_or_else(|| wrong("it begins with a name".into()))?.to_owned();
        let mut plan = Self { name, bytes: None, studies: None, instances: None };
        for word in words {
            let form = || wrong(format!("`{word}` is not bytes=, studies= or instances= with a number"));
            let (limit, value) = word.split_once('=').ok_or_else(form)?;
            let (slot, number) = match limit {
                "bytes" => (&mut plan.bytes, bytes(value)),
                "studies" => (&mut plan.studies, value.parse().ok()),
                "instances" => (&mut plan.instances, value.parse().ok()),
                _ => return Err(form()),
            };
            if slot.replace(number.ok_or_else(form)?).is_some() {
                return Err(wrong(format!("{limit} occurs twice")));
            }
        }
        Ok(plan)
    }
}

/// A number of bytes, with or without a unit.
fn bytes(text: &str) -> Option<u64> {
    let digits = text.trim_end_matches(|end: char| end.is_ascii_alphabetic());
    let unit = text.get(digits.len()..)?;
    let factor = UNITS.iter().find(|(name, _)| *name == unit).map(|(_, factor)| *factor);
    let factor = if unit.is_empty() { Some(1) } else { factor };
    digits.parse::<u64>().ok()?.checked_mul(factor?)
}

impl TryFrom<String> for PlanRule {
    type Error = NotAPlan;

    fn try_from(entry: String) -> Result<Self, NotAPlan> {
        let wrong = |reason: &str| NotAPlan {
            setting: "quotas.tenants",
            entry: entry.clone(),
            reason: reason.to_owned(),
        };
        let parts = entry.split_once('=').map(|(tenant, plan)| (tenant.trim(), plan.trim()));
        let form = "the form is tenant=plan, or *=plan for all other tenants";
        let (tenant, plan) = parts.filter(|(_, plan)| !plan.is_empty()).ok_or_else(|| wrong(form))?;
        let tenant = match tenant {
            "*" => None,
            name => Some(name.parse().map_err(|_| wrong("a tenant's name is 1 to 64 of a-z, 0-9 and -"))?),
        };
        Ok(Self { tenant, plan: plan.to_owned() })
    }
}

#[cfg(test)]
mod tests {
    use crate::config::Config;

    fn load(plans: &str, tenants: &str) -> Result<Config, String> {
        let text = format!("[quotas]\nplans = {plans}\ntenants = {tenants}\n");
        Config::load(Some(&text), &[]).map_err(|error| format!("{error:#}"))
    }

    #[test]
    fn each_tenant_has_its_own_plan_or_that_of_all_others() {
        let config =
            load(r#"["s bytes=5MB studies=2", "l instances=7", "none"]"#, r#"["a=s", "b=none", "*=l"]"#)
                .unwrap();
        let plan = |tenant: &str| {
            let plan = config.quotas.plan_of(&tenant.parse().unwrap()).unwrap();
            (plan.name.as_str(), plan.bytes, plan.studies, plan.instances)
        };
        assert_eq!(plan("a"), ("s", Some(5_000_000), Some(2), None));
        assert_eq!(plan("b"), ("none", None, None, None));
        assert_eq!(plan("c"), ("l", None, None, Some(7)));
        let none = Config::defaults().quotas;
        assert_eq!(none.plan_of(&"a".parse().unwrap()), None);
    }

    #[test]
    fn an_entry_that_cannot_be_used_is_named() {
        for (plans, tenants, part) in [
            (r#"["bytes=5"]"#, "[]", "quotas.plans cannot have `bytes=5`"),
            (r#"["a bytes=5XB"]"#, "[]", "quotas.plans cannot have `a bytes=5XB`"),
            (r#"["a bytes=99999999999TB"]"#, "[]", "`bytes=99999999999TB`"),
            (r#"["a series=1"]"#, "[]", "`series=1`"),
            (r#"["a studies=-1"]"#, "[]", "`studies=-1`"),
            (r#"["a studies=1 studies=2"]"#, "[]", "studies occurs twice"),
            (r#"["a", "a bytes=1"]"#, "[]", "quotas.plans has the plan `a` twice"),
            (r#"["a"]"#, r#"["x=b"]"#, "quotas.tenants cannot have `x=b`: no plan"),
            (r#"["a"]"#, r#"["X=a"]"#, "quotas.tenants cannot have `X=a`"),
            (r#"["a"]"#, r#"["x"]"#, "quotas.tenants cannot have `x`"),
            (r#"["a"]"#, r#"["x=a", "x=a"]"#, "`x` occurs twice"),
            (r#"["a"]"#, r#"["*=a", "*=a"]"#, "`*` occurs twice"),
        ] {
            let error = load(plans, tenants).unwrap_err();
            assert!(error.contains(part), "{plans} {tenants}: {error}");
        }
    }
}
