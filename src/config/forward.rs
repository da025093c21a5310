//! Section `[forward]`: the rules by which instances that were stored are sent on.

use anyhow::{bail, ensure};
use serde::Deserialize;

use crate::config::{Config, MAX_AE_TITLE_CHARACTERS, PeerAddress, Tenant, tenant_of};

/// Section `[forward]`.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
#[expect(missing_docs, reason = "config.default.toml describes each setting")]
pub struct ForwardSettings {
    pub rules: Vec<ForwardRule>,
    pub retry_hours: u64,
}

/// The priority of a C-STORE (PS3.7 §9.3.1.1).
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum StorePriority {
    /// Low.
    Low,
    /// Medium.
    #[default]
    Medium,
    /// High.
    High,
}

impl StorePriority {
    /// The value of Priority (0000,0700) (PS3.7 Table E.1-1).
    pub fn code(self) -> u16 {
        match self {
            Self::Medium => 0,
            Self::High => 1,
            Self::Low => 2,
        }
    }
}

/// An entry of `forward.rules`: `key=value … -> TITLE`. An instance must match all of the keys.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(try_from = "String")]
pub struct ForwardRule {
    /// The entry as it was written, for messages.
    text: String,
    /// The AE title to which instances are sent.
    pub destination: String,
    /// The tenant of the instances; `None` for the tenant for which the destination stands.
    tenant: Option<Tenant>,
    /// The modalities; any if there is none.
    pub modalities: Vec<String>,
    /// The AE title that sent the instances; any if there is none.
    pub calling: Option<String>,
    /// The Study Description, with the wildcards `*` and `?`; any if there is none.
    pub description: Option<String>,
    /// The SOP classes; any if there is none.
    pub sop_classes: Vec<String>,
    /// The priority with which instances are sent.
    pub priority: StorePriority,
}

/// A text that is no rule.
#[derive(Debug, thiserror::Error)]
#[error("`{text}` cannot be in forward.rules: {reason}")]
pub struct NotAForwardRule {
    text: String,
    reason: String,
}

impl TryFrom<String> for ForwardRule {
    type Error = NotAForwardRule;

    fn try_from(text: String) -> Result<Self, NotAForwardRule> {
        read(&text).map_err(|reason| NotAForwardRule { text, reason })
    }
}

/// The keys of a rule, for messages.
const KEYS: &str = "modality, tenant, calling, description, sop_class and priority";

fn read(text: &str) -> Result<ForwardRule, String> {
    let (conditions, destination) =
        text.rsplit_once("->").ok_or("a rule is `key=value … -> TITLE`, and there is no `->`")?;
    let destination = destination.trim();
    if !is_ae_title(destination) {
        return Err(format!("the destination `{destination}` is no AE title"));
    }
    let mut rule = ForwardRule {
        text: text.to_owned(),
        destination: destination.to_owned(),
        tenant: None,
        modalities: Vec::new(),
        calling: None,
        description: None,
        sop_classes: Vec::new(),
        priority: StorePriority::Medium,
    };
    let mut seen = Vec::new();
    for (key, value) in pairs(conditions)? {
        if seen.contains(&key) {
            return Err(format!("`{key}` is there more than once"));
        }
        if value.is_empty() {
            return Err(format!("`{key}` has no value"));
        }
        rule.set(&key, &value)?;
        seen.push(key);
    }
    Ok(rule)
}

/// The pairs of key and value. A word without `=` belongs to the value before it, which may have spaces.
fn pairs(text: &str) -> Result<Vec<(String, String)>, String> {
    let mut pairs: Vec<(String, String)> = Vec::new();
    for word in text.split_whitespace() {
        if let Some((key, value)) = word.split_once('=') {
            pairs.push((key.to_owned(), value.to_owned()));
            continue;
        }
        let (_, value) = pairs.last_mut().ok_or_else(|| format!("`{word}` has no key before it"))?;
        if !value.is_empty() {
            value.push(' ');
        }
        value.push_str(word);
    }
    Ok(pairs)
}

impl ForwardRule {
    fn set(&mut self, key: &str, value: &str) -> Result<(), String> {
        let list = || value.split('+').map(|part| part.trim().to_owned()).collect::<Vec<_>>();
        let is_uid = |uid: &String| {
            uid.len() <= 64
                && uid
                    .split('.')
                    .all(|part| !part.is_empty() && part.bytes().all(|byte| byte.is_ascii_digit()))
        };
        let is_modality = |code: &String| !code.is_empty() && code.len() <= 16 && code.is_ascii();
        match key {
            "modality" => {
                self.modalities = list();
                let wrong = self.modalities.iter().find(|code| !is_modality(code));
                wrong.map_or(Ok(()), |code| Err(format!("`modality` cannot be `{code}`")))
            }
            "tenant" => {
                let tenant =
                    value.parse().map_err(|error| format!("`tenant` cannot be `{value}`: {error}"))?;
                self.tenant = Some(tenant);
                Ok(())
            }
            "calling" if !is_ae_title(value) => {
                Err(format!("`calling` cannot be `{value}`: it is an AE title"))
            }
            "calling" => {
                self.calling = Some(value.to_owned());
                Ok(())
            }
            "description" => {
                self.description = Some(value.to_owned());
                Ok(())
            }
            "sop_class" => {
                self.sop_classes = list();
                let wrong = self.sop_classes.iter().find(|uid| !is_uid(uid));
                wrong.map_or(Ok(()), |uid| Err(format!("`sop_class` cannot be `{uid}`: it is a UID")))
            }
            "priority" => {
                self.priority = match value {
                    "low" => StorePriority::Low,
                    "medium" => StorePriority::Medium,
                    "high" => StorePriority::High,
                    _ => return Err(format!("`priority` cannot be `{value}`: it is low, medium or high")),
                };
                Ok(())
            }
            _ => Err(format!("there is no key `{key}`; the keys are {KEYS}")),
        }
    }

    /// The tenant whose instances the rule is for: the one that the rule names, else the one for which the
    /// destination stands; `None` if there is none.
    pub fn tenant(&self, config: &Config) -> Option<Tenant> {
        if !config.auth.is_on() {
            return Some(Tenant::default_tenant());
        }
        let of_title = || tenant_of(&config.dimse.tenants, &self.destination, &config.dimse.ae_title);
        self.tenant.clone().or_else(of_title)
    }

    /// The address of the destination in `dimse.peers`.
    pub fn address<'a>(&self, config: &'a Config) -> Option<&'a PeerAddress> {
        let mut peers = config.dimse.peers.iter();
        peers.find(|peer| peer.ae_title.as_ref() == Some(&self.destination))?.address.as_ref()
    }

    fn validate(&self, config: &Config) -> anyhow::Result<()> {
        let Self { text, destination, .. } = self;
        let refused = format!("`{text}` cannot be in forward.rules");
        ensure!(
            self.address(config).is_some(),
            "{refused}: its destination `{destination}` has no address in dimse.peers"
        );
        ensure!(*destination != config.dimse.ae_title.trim(), "{refused}: its destination is this server");
        let default = Tenant::default_tenant();
        ensure!(
            config.auth.is_on() || self.tenant.as_ref().is_none_or(|tenant| *tenant == default),
            "{refused}: `tenant` needs auth.issuer, as there is one tenant without authentication"
        );
        if self.tenant(config).is_none() {
            bail!(
                "{refused}: its destination stands for no tenant in dimse.tenants, and `tenant` is missing"
            );
        }
        Ok(())
    }
}

impl ForwardSettings {
    pub(super) fn validate(&self, config: &Config) -> anyhow::Result<()> {
        self.rules.iter().try_for_each(|rule| rule.validate(config))?;
        // Instances wait in the feed of changes.
        let kept_hours = config.changes.retention_days.saturating_mul(24);
        ensure!(
            self.rules.is_empty() || kept_hours == 0 || self.retry_hours < kept_hours,
            "forward.retry_hours cannot be {}: it is less than changes.retention_days, {kept_hours} hours",
            self.retry_hours
        );
        Ok(())
    }
}

fn is_ae_title(text: &str) -> bool {
    !text.is_empty() && text.len() <= MAX_AE_TITLE_CHARACTERS && text.is_ascii() && text != "*"
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Override;

    fn rule(text: &str) -> Result<ForwardRule, NotAForwardRule> {
        text.to_owned().try_into()
    }

    #[test]
    fn a_rule_has_keys_whose_values_may_have_spaces() {
        let read = rule(
            "modality=CT+MR tenant=clinic-a calling=X RAY 1 description=*knee left* sop_class=1.2+1.3 priority=high \
             -> ARCHIVE 2",
        );
        let read = read.unwrap();
        assert_eq!(read.destination, "ARCHIVE 2");
        assert_eq!(read.modalities, ["CT", "MR"]);
        assert_eq!(read.tenant, Some("clinic-a".parse().unwrap()));
        assert_eq!(read.calling.as_deref(), Some("X RAY 1"));
        assert_eq!(read.description.as_deref(), Some("*knee left*"));
        assert_eq!(read.sop_classes, ["1.2", "1.3"]);
        assert_eq!(read.priority, StorePriority::High);
        let all = rule(" -> ARCHIVE").unwrap();
        assert_eq!((all.modalities.len(), all.calling, all.priority.code()), (0, None, 0));
    }

    #[test]
    fn a_wrong_rule_is_named_with_its_key() {
        for (text, reason) in [
            ("modality=CT", "->"),
            ("modality=CT ->", "destination"),
            ("modality=CT -> SEVENTEENLETTERSX", "SEVENTEENLETTERSX"),
            ("modality=CT -> *", "destination"),
            ("modalty=CT -> A", "modalty"),
            ("modality= -> A", "modality"),
            ("modality=CT++MR -> A", "modality"),
            ("CT -> A", "CT"),
            ("modality=CT modality=MR -> A", "modality"),
            ("tenant=Clinic -> A", "tenant"),
            ("calling=SEVENTEENLETTERSX -> A", "calling"),
            ("sop_class=CT -> A", "sop_class"),
            ("priority=urgent -> A", "priority"),
        ] {
            let error = rule(text).expect_err(text).to_string();
            assert!(error.contains("forward.rules") && error.contains(text), "{error}");
            let after = error.split("forward.rules: ").nth(1).unwrap();
            assert!(after.contains(reason), "{error}");
        }
    }

    fn load(settings: &[(&str, &str, &str)]) -> Result<Config, String> {
        let settings: Vec<Override> = settings
            .iter()
            .map(|(section, name, text)| (section.to_string(), name.to_string(), text.to_string()))
            .collect();
        Config::load(None, &settings).map_err(|error| format!("{error:#}"))
    }

    #[test]
    fn rules_are_checked_against_other_settings() {
        let issuer = ("auth", "issuer", "https://id.example");
        let peers = ("dimse", "peers", "A@h:1=, B=store, CUSPID@h:1=");
        let tenants = ("dimse", "tenants", "A=clinic-a");
        let rules = |text| ("forward", "rules", text);
        assert!(load(&[peers, rules("-> A, tenant=default modality=CT -> A")]).is_ok());
        let config = load(&[issuer, peers, tenants, rules("-> A, tenant=b -> A")]).unwrap();
        let found = config.forward.rules.iter().map(|rule| rule.tenant(&config).unwrap());
        assert_eq!(found.map(|tenant| tenant.as_str().to_owned()).collect::<Vec<_>>(), ["clinic-a", "b"]);
        for (settings, reason) in [
            (
                vec![peers, rules("-> B")],
                "`-> B` cannot be in forward.rules: its destination `B` has no address",
            ),
            (vec![peers, rules("-> C")], "its destination `C` has no address in dimse.peers"),
            (vec![peers, rules("-> CUSPID")], "is this server"),
            (vec![peers, rules("tenant=a -> A")], "`tenant` needs auth.issuer"),
            (vec![issuer, peers, rules("-> A")], "stands for no tenant"),
            (vec![peers, rules("-> A"), ("forward", "retry_hours", "720")], "forward.retry_hours"),
            (vec![("forward", "retry_hours", "0")], "forward.retry_hours"),
        ] {
            let error = load(&settings).expect_err(reason);
            assert!(error.contains(reason), "{error}");
        }
    }
}
