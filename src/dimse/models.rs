//! The query/retrieve information models, as SOP classes (PS3.4 §C.3, §C.6), and what is negotiated about
//! them (PS3.4 §C.5).

use crate::dicom::uids;

/// The root of an information model.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ModelRoot {
    /// Patient Root.
    Patient,
    /// Study Root.
    Study,
    /// Patient/Study Only, which is retired.
    PatientStudyOnly,
}

/// The service of a query/retrieve SOP class.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum QueryService {
    /// C-FIND.
    Find,
    /// C-MOVE.
    Move,
    /// C-GET.
    Get,
}

/// The root and the service of a SOP class; `None` if the class is not one of query/retrieve.
pub fn of_sop_class(sop_class: &str) -> Option<(ModelRoot, QueryService)> {
    use uids::*;
    let table = [
        (PATIENT_ROOT_QUERY_RETRIEVE_INFORMATION_MODEL_FIND, ModelRoot::Patient, QueryService::Find),
        (PATIENT_ROOT_QUERY_RETRIEVE_INFORMATION_MODEL_MOVE, ModelRoot::Patient, QueryService::Move),
        (PATIENT_ROOT_QUERY_RETRIEVE_INFORMATION_MODEL_GET, ModelRoot::Patient, QueryService::Get),
        (STUDY_ROOT_QUERY_RETRIEVE_INFORMATION_MODEL_FIND, ModelRoot::Study, QueryService::Find),
        (STUDY_ROOT_QUERY_RETRIEVE_INFORMATION_MODEL_MOVE, ModelRoot::Study, QueryService::Move),
        (STUDY_ROOT_QUERY_RETRIEVE_INFORMATION_MODEL_GET, ModelRoot::Study, QueryService::Get),
        (
            PATIENT_STUDY_ONLY_QUERY_RETRIEVE_INFORMATION_MODEL_FIND,
            ModelRoot::PatientStudyOnly,
            QueryService::Find,
        ),
        (
            PATIENT_STUDY_ONLY_QUERY_RETRIEVE_INFORMATION_MODEL_MOVE,
            ModelRoot::PatientStudyOnly,
            QueryService::Move,
        ),
        (
            PATIENT_STUDY_ONLY_QUERY_RETRIEVE_INFORMATION_MODEL_GET,
            ModelRoot::PatientStudyOnly,
            QueryService::Get,
        ),
    ];
    table.iter().find(|(uid, ..)| *uid == sop_class).map(|(_, root, service)| (*root, *service))
}

/// The options of a query/retrieve SOP class that a peer negotiated.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct QueryOptions {
    /// Whether unique keys of the levels above may be missing: relational queries and retrievals.
    pub is_relational: bool,
    /// Whether the range of a date and that of its time are one range of moments.
    pub joins_dates_and_times: bool,
    /// Whether person names are matched fuzzily.
    pub is_fuzzy: bool,
    /// Whether `""` matches attributes without value.
    pub has_empty_value_matching: bool,
    /// Whether all values of a list must match.
    pub has_multiple_value_matching: bool,
}

impl QueryOptions {
    /// Accepts what is supported of the service class application information that a peer proposed, and
    /// returns the information for the answer, of the same length (PS3.4 Tables C.5-1 to C.5-4).
    pub fn negotiate(service: QueryService, proposed: &[u8]) -> (Self, Vec<u8>) {
        // Of C-FIND: relational queries, dates with times, fuzzy names, time zones, enhanced multi-frame
        // conversion, empty values, multiple values. Of the others: relational, enhanced multi-frame
        // conversion.
        let supported: &[u8] = match service {
            QueryService::Find => &[1, 1, 1, 0, 0, 1, 1],
            QueryService::Move | QueryService::Get => &[1, 0],
        };
        let answer: Vec<u8> =
            proposed.iter().zip(supported).map(|(proposed, supported)| (*proposed).min(*supported)).collect();
        let is_on = |index: usize| answer.get(index) == Some(&1);
        let is_find = service == QueryService::Find;
        let options = Self {
            is_relational: is_on(0),
            joins_dates_and_times: is_find && is_on(1),
            is_fuzzy: is_find && is_on(2),
            has_empty_value_matching: is_find && is_on(5),
            has_multiple_value_matching: is_find && is_on(6),
        };
        (options, answer)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_supported_is_accepted() {
        let (options, answer) = QueryOptions::negotiate(QueryService::Find, &[1, 1, 1, 1, 1, 1, 1, 1]);
        assert_eq!(answer, [1, 1, 1, 0, 0, 1, 1]);
        assert!(options.is_relational && options.joins_dates_and_times && options.is_fuzzy);
        let (options, answer) = QueryOptions::negotiate(QueryService::Find, &[0, 1]);
        assert_eq!(answer, [0, 1]);
        assert_eq!(options, QueryOptions { joins_dates_and_times: true, ..QueryOptions::default() });
        let (options, answer) = QueryOptions::negotiate(QueryService::Move, &[1, 1, 1]);
        assert_eq!(answer, [1, 0]);
        assert_eq!(options, QueryOptions { is_relational: true, ..QueryOptions::default() });
    }
}
