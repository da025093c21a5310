//! The part of an archive that an operation is about, and the part that a caller may see.

use std::collections::BTreeSet;

use crate::archive::Error;
use crate::archive::access::Caller;
use crate::dicom::uid::{InstanceUid, SeriesUid, StudyUid};
use crate::index::changes::{Change, FeedEntry};
use crate::index::shares::SharedObjects;

/// A study, a series or an instance.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Scope {
    /// The study.
    pub study: StudyUid,
    /// Only this series.
    pub series: Option<SeriesUid>,
    /// Only this instance.
    pub instance: Option<InstanceUid>,
}

/// The part of a scope that a caller may see.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(in crate::archive) enum VisibleScope {
    /// All of this scope, which may be smaller than the one that was asked for.
    All(Scope),
    /// Some instances of this scope: those that [`Caller::sees`].
    Some(Scope),
}

impl Scope {
    /// The error if nothing is stored there for a caller.
    pub(in crate::archive) fn not_found(&self) -> Error {
        Error::NotFound(match (&self.series, &self.instance) {
            (Some(series), Some(instance)) => {
                format!("instance {instance} in series {series} of study {}", self.study)
            }
            (Some(series), None) => format!("series {series} in study {}", self.study),
            (None, _) => format!("study {}", self.study),
        })
    }
}

impl SharedObjects {
    /// The shared instances of a series; `None` if all that are in the share's study or series.
    fn listed(&self, series: &SeriesUid) -> Option<&BTreeSet<InstanceUid>> {
        static NONE: BTreeSet<InstanceUid> = BTreeSet::new();
        (!self.instances.is_empty()).then(|| self.instances.get(series).unwrap_or(&NONE))
    }

    /// Whether an instance is shared.
    fn include(&self, study: &StudyUid, series: &SeriesUid, instance: &InstanceUid) -> bool {
        self.study == *study
            && self.series.as_ref().is_none_or(|only| only == series)
            && self.listed(series).is_none_or(|listed| listed.contains(instance))
    }

    /// Whether the share is a list of instances.
    pub fn is_list(&self) -> bool {
        !self.instances.is_empty()
    }
}

impl Caller {
    /// The part of a scope that the caller may see.
    ///
    /// # Errors
    /// [`Error::NotFound`] if that is nothing, as if nothing were stored there.
    pub(in crate::archive) fn visible(&self, scope: &Scope) -> Result<VisibleScope, Error> {
        let Some(objects) = self.share.as_deref().map(|share| &share.objects) else {
            return Ok(VisibleScope::All(scope.clone()));
        };
        let is_shared = objects.study == scope.study
            && match (&scope.series, &scope.instance) {
                (Some(series), Some(instance)) => objects.include(&scope.study, series, instance),
                (Some(series), None) => {
                    objects.series.as_ref().is_none_or(|only| only == series)
                        && objects.listed(series).is_none_or(|listed| !listed.is_empty())
                }
                (None, _) => true,
            };
        if !is_shared {
            return Err(scope.not_found());
        }
        let scope =
            Scope { series: scope.series.clone().or_else(|| objects.series.clone()), ..scope.clone() };
        Ok(if objects.is_list() && scope.instance.is_none() {
            VisibleScope::Some(scope)
        } else {
            VisibleScope::All(scope)
        })
    }

    /// The scope itself, if the caller may see all of it.
    ///
    /// # Errors
    /// [`Error::NotFound`] if the caller may not.
    pub(in crate::archive) fn check_all(&self, scope: &Scope) -> Result<(), Error> {
        match self.visible(scope)? {
            VisibleScope::All(visible) if visible == *scope => Ok(()),
            _ => Err(scope.not_found()),
        }
    }

    /// Whether the caller may see an instance, if it is stored.
    pub(in crate::archive) fn sees(
        &self,
        study: &StudyUid,
        series: &SeriesUid,
        instance: &InstanceUid,
    ) -> bool {
        self.share.as_deref().is_none_or(|share| share.objects.include(study, series, instance))
    }

    /// The instances in a scope that the caller's share lists; none if the share has no list.
    pub(in crate::archive) fn listed_instances(&self, scope: &Scope) -> Vec<(SeriesUid, InstanceUid)> {
        let all = self.share.iter().flat_map(|share| &share.objects.instances);
        let wanted = all.filter(|(series, _)| scope.series.as_ref().is_none_or(|only| only == *series));
        wanted
            .flat_map(|(series, instances)| {
                instances.iter().map(|instance| (series.clone(), instance.clone()))
            })
            .collect()
    }

    /// The end of the version of a scope of which the caller may see a part: that part is another
    /// representation.
    pub(in crate::archive) fn share_suffix(&self) -> String {
        self.share.as_deref().map(|share| format!("-{}", share.id)).unwrap_or_default()
    }

    /// Takes the changes out of an entry of the feed that are of objects which the caller may not see.
    pub(in crate::archive) fn keep_visible(&self, entry: &mut FeedEntry) {
        if self.share.is_some() {
            entry.changes.retain_mut(|change| self.keep_visible_part(change));
        }
    }

    /// Takes the instances out of a change that the caller may not see. Returns whether there is anything
    /// left.
    fn keep_visible_part(&self, change: &mut Change) -> bool {
        let scope =
            Scope { study: change.study.clone(), series: Some(change.series.clone()), instance: None };
        match self.visible(&scope) {
            Ok(VisibleScope::All(_)) => true,
            Ok(VisibleScope::Some(_)) => {
                let Change { study, series, instances, .. } = change;
                instances.retain(|instance| self.sees(study, series, instance));
                !change.instances.is_empty()
            }
            Err(_) => false,
        }
    }
}
