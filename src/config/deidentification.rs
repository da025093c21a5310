//! Section `[deidentification]`: the options of the profile, and what a site knows of its own devices.

use std::fmt;
use std::str::FromStr;

use anyhow::ensure;
use serde::Deserialize;

/// An option of the Basic Application Level Confidentiality Profile (PS3.15 §E.3).
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Deserialize)]
#[serde(try_from = "String")]
pub enum ProfileOption {
    /// Retain UIDs (§E.3.9).
    RetainUids,
    /// Retain Device Identity (§E.3.8).
    RetainDeviceIdentity,
    /// Retain Institution Identity (§E.3.11).
    RetainInstitutionIdentity,
    /// Retain Patient Characteristics (§E.3.7).
    RetainPatientCharacteristics,
    /// Retain Longitudinal Temporal Information With Full Dates (§E.3.6).
    RetainFullDates,
    /// Retain Longitudinal Temporal Information With Modified Dates (§E.3.6).
    RetainModifiedDates,
    /// Retain Safe Private (§E.3.10).
    RetainSafePrivate,
    /// Clean Descriptors (§E.3.5).
    CleanDescriptors,
}

/// A name that is of no option.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{0}` is no option of de-identification")]
pub struct UnknownOption(String);

impl ProfileOption {
    /// All options, in the order of their names in the documents.
    pub const ALL: [Self; 8] = [
        Self::RetainUids,
        Self::RetainDeviceIdentity,
        Self::RetainInstitutionIdentity,
        Self::RetainPatientCharacteristics,
        Self::RetainFullDates,
        Self::RetainModifiedDates,
        Self::RetainSafePrivate,
        Self::CleanDescriptors,
    ];

    /// The name in settings and requests.
    pub const fn name(self) -> &'static str {
        match self {
            Self::RetainUids => "retain-uids",
            Self::RetainDeviceIdentity => "retain-device-identity",
            Self::RetainInstitutionIdentity => "retain-institution-identity",
            Self::RetainPatientCharacteristics => "retain-patient-characteristics",
            Self::RetainFullDates => "retain-full-dates",
            Self::RetainModifiedDates => "retain-modified-dates",
            Self::RetainSafePrivate => "retain-safe-private",
            Self::CleanDescriptors => "clean-descriptors",
        }
    }
}

impl FromStr for ProfileOption {
    type Err = UnknownOption;

    fn from_str(text: &str) -> Result<Self, UnknownOption> {
        let found = Self::ALL.into_iter().find(|option| option.name() == text.trim());
        found.ok_or_else(|| UnknownOption(text.chars().take(40).collect()))
    }
}

impl TryFrom<String> for ProfileOption {
    type Error = UnknownOption;

    fn try_from(text: String) -> Result<Self, UnknownOption> {
        text.parse()
    }
}

/// An entry that is not of the form that the setting has.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{0}` is not of the form that config.default.toml describes")]
pub struct NotARule(String);

/// A private attribute that can identify nobody: an entry of `deidentification.safe_private`.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(try_from = "String")]
pub struct SafePrivateRule {
    /// The group, which is odd.
    pub group: u16,
    /// The last two digits of the element.
    pub element: u8,
    /// The private creator.
    pub creator: String,
}

impl TryFrom<String> for SafePrivateRule {
    type Error = NotARule;

    fn try_from(text: String) -> Result<Self, NotARule> {
        let read = || {
            let mut parts = text.splitn(3, ':');
            let group = u16::from_str_radix(parts.next()?.trim(), 16).ok().filter(|group| group % 2 == 1)?;
            let element = u8::from_str_radix(parts.next()?.trim(), 16).ok()?;
            let creator = parts.next().map(str::trim).filter(|creator| !creator.is_empty())?.to_owned();
            Some(Self { group, element, creator })
        };
        read().ok_or_else(|| NotARule(text.clone()))
    }
}

/// A region of an image, in pixels.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PixelRegion {
    /// The first column, from 0.
    pub left: u32,
    /// The first row, from 0.
    pub top: u32,
    /// Columns.
    pub width: u32,
    /// Rows.
    pub height: u32,
}

/// The regions of the images of a kind that have burned-in text: an entry of
/// `deidentification.burned_in_regions`.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(try_from = "String")]
pub struct BurnedInRule {
    /// Modality (0008,0060); empty for any.
    pub modality: String,
    /// The beginning of Manufacturer (0008,0070), in lower case; empty for any.
    pub manufacturer: String,
    /// The beginning of Manufacturer's Model Name (0008,1090), in lower case; empty for any.
    pub model: String,
    /// Columns and rows; `None` for any.
    pub size: Option<(u32, u32)>,
    /// The regions to black out; empty if there is no text in the images.
    pub regions: Vec<PixelRegion>,
}

impl TryFrom<String> for BurnedInRule {
    type Error = NotARule;

    fn try_from(text: String) -> Result<Self, NotARule> {
        Self::read(&text).ok_or_else(|| NotARule(text.clone()))
    }
}

impl BurnedInRule {
    fn read(text: &str) -> Option<Self> {
        let (images, regions) = text.split_once('=')?;
        let mut parts = images.split('|').map(str::trim);
        let [modality, manufacturer, model, size] =
            [parts.next()?, parts.next()?, parts.next()?, parts.next()?];
        if parts.next().is_some() {
            return None;
        }
        let size = if size.is_empty() { None } else { Some(pair(size)?) };
        let region = |text: &str| {
            let mut parts = text.split('+');
            let (width, height) = pair(parts.next()?)?;
            let (left, top) = (parts.next()?.parse().ok()?, parts.next()?.parse().ok()?);
            let is_whole = parts.next().is_none() && width > 0 && height > 0;
            is_whole.then_some(PixelRegion { left, top, width, height })
        };
        let regions = match regions.trim() {
            "none" => Vec::new(),
            "" => return None,
            regions => regions.split_whitespace().map(region).collect::<Option<Vec<_>>>()?,
        };
        let lower = |text: &str| text.to_lowercase();
        Some(Self {
            modality: modality.to_uppercase(),
            manufacturer: lower(manufacturer),
            model: lower(model),
            size,
            regions,
        })
    }
}

/// `WIDTHxHEIGHT`.
fn pair(text: &str) -> Option<(u32, u32)> {
    let (width, height) = text.split_once('x')?;
    Some((width.trim().parse().ok()?, height.trim().parse().ok()?))
}

/// Section `[deidentification]`.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
#[expect(missing_docs, reason = "config.default.toml describes each setting")]
pub struct DeidentificationSettings {
    pub options: Vec<ProfileOption>,
    pub safe_words: Vec<String>,
    pub safe_private: Vec<SafePrivateRule>,
    pub burned_in_regions: Vec<BurnedInRule>,
}

impl DeidentificationSettings {
    /// Refuses options that exclude each other.
    pub(super) fn validate(&self) -> anyhow::Result<()> {
        let has = |option| self.options.contains(&option);
        ensure!(
            !(has(ProfileOption::RetainFullDates) && has(ProfileOption::RetainModifiedDates)),
            "deidentification.options cannot have both retain-full-dates and retain-modified-dates"
        );
        Ok(())
    }
}

impl fmt::Display for ProfileOption {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rules_of_regions_are_read() {
        let read = |text: &str| BurnedInRule::try_from(text.to_owned());
        let rule = read("us|GE Healthcare||1024x768=1024x60+0+0 200x20+5+748").unwrap();
        assert_eq!((rule.modality.as_str(), rule.manufacturer.as_str()), ("US", "ge healthcare"));
        assert_eq!((rule.model.as_str(), rule.size), ("", Some((1024, 768))));
        let second = PixelRegion { left: 5, top: 748, width: 200, height: 20 };
        assert_eq!((rule.regions.len(), rule.regions[1]), (2, second));
        assert_eq!(read("DX|||=none").unwrap().regions, []);
        for wrong in ["", "US", "US|||", "US|||=", "US|||=1x1", "US|||=0x1+0+0", "US|||x=none", "US||||=none"]
        {
            assert!(read(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn safe_private_attributes_are_read() {
        let read = |text: &str| SafePrivateRule::try_from(text.to_owned());
        let rule = SafePrivateRule { group: 0x19, element: 0x23, creator: "GEMS_ACQU_01".into() };
        assert_eq!(read("0019:23:GEMS_ACQU_01").unwrap(), rule);
        for wrong in ["0018:23:X", "0019:123:X", "0019:23:", "0019:23", "X:23:Y"] {
            assert!(read(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn names_of_options_lead_to_them() {
        for option in ProfileOption::ALL {
            assert_eq!(option.name().parse(), Ok(option));
        }
        assert!("retain-names".parse::<ProfileOption>().is_err());
    }
}
