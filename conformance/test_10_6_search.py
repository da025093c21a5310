"""Search Transaction (PS3.18 §10.6), its parameters (§8.3.4), matching (PS3.4 §C.2.2.2)."""

import urllib.parse
from types import SimpleNamespace

import pytest
from pydicom.dataset import Dataset
from pydicom.uid import generate_uid

from build import encode, image, instance, series_path, study_path

STUDY, SERIES, INSTANCE = "0020000D", "0020000E", "00080018"


def uids(results: list, tag: str = STUDY) -> list:
    return [result[tag]["Value"][0] for result in results]


def coded(**attributes) -> Dataset:
    item = Dataset()
    for keyword, value in attributes.items():
        setattr(item, keyword, value)
    return item


@pytest.fixture(scope="module")
def archive(origin):
    """Five studies that share an accession number of their own, so that nothing else is found."""
    mark = generate_uid()[-12:]
    common = {"AccessionNumber": mark, "SpecificCharacterSet": "ISO_IR 192"}
    studies = {
        "anna": dict(PatientName="Müller^Anna", PatientID="P1", StudyDate="20200101", StudyTime="080000"),
        "hans": dict(PatientName="MULLER^Hans", PatientID="P10", StudyDate="20200115", StudyTime="120000"),
        "yamada": dict(PatientName="Yamada^Tarou=山田^太郎=やまだ^たろう", PatientID="P2", StudyDate="20210301", StudyTime="235959"),
        "smith": dict(PatientName="Smith^John^Q", PatientID="p1", StudyDate="20210302", StudyTime="000000.5"),
        "nobody": dict(PatientName="", PatientID="", StudyDate="", StudyTime=""),
    }
    files, found = [], {}
    for name, attributes in studies.items():
        study = instance(**common, **attributes)
        study.StudyDescription = f"Study of {name}"
        files.append(encode(study))
        found[name] = str(study.StudyInstanceUID)
    # Anna's study has a second series, of MR, with two instances.
    same = {**common, **studies["anna"], "StudyInstanceUID": found["anna"], "SeriesInstanceUID": generate_uid()}
    for number in (1, 2):
        extra = image(**same, Modality="MR", InstanceNumber=number, SeriesNumber=7, SeriesDescription="Second")
        extra.RequestAttributesSequence = [coded(ScheduledProcedureStepID="STEP1", RequestedProcedureID="REQ1")]
        extra.BodyPartExamined = "HEAD"
        files.append(encode(extra))
    origin.store(*files)
    names = {uid: name for name, uid in found.items()}

    def search(**parameters) -> set:
        query = urllib.parse.urlencode({"AccessionNumber": mark, **parameters})
        return {names[uid] for uid in uids(origin.json(f"/studies?{query}"))}

    return SimpleNamespace(mark=mark, studies=found, mr_series=same["SeriesInstanceUID"], search=search)


@pytest.mark.parametrize(
    "parameters, expected",
    [
        # Single value matching (PS3.4 §C.2.2.2.1); person names without regard to case and accents.
        ({"PatientID": "P1"}, {"anna"}),
        ({"PatientID": "P"}, set()),
        ({"PatientName": "Müller^Anna"}, {"anna"}),
        ({"PatientName": "muller^anna"}, {"anna"}),
        ({"PatientName": "山田^太郎"}, {"yamada"}),
        ({"StudyDate": "20200101"}, {"anna"}),
        ({"00100020": "P2"}, {"yamada"}),
        # Universal matching (§C.2.2.2.3).
        ({"PatientID": ""}, {"anna", "hans", "yamada", "smith", "nobody"}),
        ({"PatientName": "*"}, {"anna", "hans", "yamada", "smith", "nobody"}),
        # Wild cards (§C.2.2.2.4).
        ({"PatientName": "mul*"}, {"anna", "hans"}),
        ({"PatientName": "*anna"}, {"anna"}),
        ({"PatientName": "*a^*"}, {"yamada"}),
        ({"PatientName": "Sm?th^*"}, {"smith"}),
        ({"PatientName": "山*"}, {"yamada"}),
        ({"PatientID": "P?"}, {"anna", "yamada"}),
        ({"PatientID": "P1*"}, {"anna", "hans"}),
        # Ranges (§C.2.2.2.5), with both ends included.
        ({"StudyDate": "20200101-20200115"}, {"anna", "hans"}),
        ({"StudyDate": "20210302-"}, {"smith"}),
        ({"StudyDate": "-20200101"}, {"anna"}),
        ({"StudyDate": "20190101-20191231"}, set()),
        ({"StudyTime": "080000-120000"}, {"anna", "hans"}),
        ({"StudyTime": "2300-"}, {"yamada"}),
        ({"StudyDate": "20210301-20210302", "PatientName": "Y*"}, {"yamada"}),
        ({"ModalitiesInStudy": "MR"}, {"anna"}),
        ({"PatientID": "P1", "StudyDate": "20210101-"}, set()),
    ],
)
def test_studies_match(archive, parameters, expected):
    assert archive.search(**parameters) == expected


@pytest.mark.parametrize("separator", [",", "\\"])
def test_a_list_of_uids_matches_each(archive, separator):
    wanted = separator.join([archive.studies["anna"], archive.studies["smith"], generate_uid()])
    assert archive.search(StudyInstanceUID=wanted) == {"anna", "smith"}


def test_fuzzy_matching_is_honoured_or_reported(origin, archive):
    answer = origin.get(f"/studies?AccessionNumber={archive.mark}&PatientName=anna&fuzzymatching=true", "application/dicom+json")
    assert answer.status_code == 200
    assert "Warning" in answer.headers or uids(answer.json()) == [archive.studies["anna"]]
    assert archive.search(PatientName="anna") == set()


def test_results_are_ordered_and_pages_add_up(origin, archive):
    query = f"/studies?AccessionNumber={archive.mark}"
    everything = uids(origin.json(query))
    pages = [uids(origin.json(f"{query}&limit=2&offset={offset}")) for offset in (0, 2, 4, 6)]
    assert [len(page) for page in pages] == [2, 2, 1, 0]
    assert sum(pages, []) == everything


def test_more_results_than_the_limit_are_announced_by_a_warning(origin, archive):
    query = f"/studies?AccessionNumber={archive.mark}"
    assert origin.get(f"{query}&limit=2").headers["Warning"].startswith("299 ")
    assert "Warning" not in origin.get(f"{query}&limit=5").headers


def test_nothing_found_is_200_or_204(origin):
    answer = origin.get(f"/studies?StudyInstanceUID={generate_uid()}", "application/dicom+json")
    assert answer.status_code == 204 or (answer.status_code == 200 and answer.json() == [])


def test_a_study_has_its_required_attributes_and_exact_counts(origin, archive):
    (study,) = origin.json(f"/studies?StudyInstanceUID={archive.studies['anna']}")
    for tag in ["00080020", "00080030", "00080050", "00080061", "00100010", "00100020", "00201206", "00201208"]:
        assert tag in study, tag
    assert sorted(study["00080061"]["Value"]) == ["CT", "MR"]
    assert study["00201206"]["Value"] == [2]
    assert study["00201208"]["Value"] == [3]
    assert study["00100010"] == {"vr": "PN", "Value": [{"Alphabetic": "Müller^Anna"}]}
    assert study["00081190"]["Value"][0].endswith(f"/studies/{archive.studies['anna']}")


def test_a_name_comes_in_its_three_groups(origin, archive):
    (study,) = origin.json(f"/studies?StudyInstanceUID={archive.studies['yamada']}")
    name = {"Alphabetic": "Yamada^Tarou", "Ideographic": "山田^太郎", "Phonetic": "やまだ^たろう"}
    assert study["00100010"]["Value"] == [name]


def test_no_value_array_is_empty(origin, archive):
    for study in origin.json(f"/studies?AccessionNumber={archive.mark}&includefield=all"):
        for tag, attribute in study.items():
            assert attribute.get("Value") != [], tag


@pytest.mark.parametrize(
    "path, tag, count",
    [
        ("/studies/{study}/series", SERIES, 2),
        ("/studies/{study}/series?Modality=MR", SERIES, 1),
        ("/studies/{study}/series/{series}/instances", INSTANCE, 2),
        ("/studies/{study}/series/{series}/instances?InstanceNumber=2", INSTANCE, 1),
        ("/studies/{study}/instances", INSTANCE, 3),
        ("/series?StudyInstanceUID={study}", SERIES, 2),
        ("/series?AccessionNumber={mark}", SERIES, 6),
        ("/series?AccessionNumber={mark}&Modality=MR", SERIES, 1),
        ("/instances?AccessionNumber={mark}", INSTANCE, 7),
        ("/instances?SeriesInstanceUID={series}", INSTANCE, 2),
        ("/instances?StudyInstanceUID={study}&Modality=CT", INSTANCE, 1),
    ],
)
def test_each_resource_finds_what_is_within_it(origin, archive, path, tag, count):
    path = path.format(study=archive.studies["anna"], series=archive.mr_series, mark=archive.mark)
    found = uids(origin.json(path), tag)
    assert len(set(found)) == len(found) == count


def test_relational_results_carry_the_attributes_of_the_levels_above(origin, archive):
    for series in origin.json(f"/series?AccessionNumber={archive.mark}"):
        assert series[STUDY]["Value"][0] in archive.studies.values()
        assert "00100020" in series and "00080060" in series
    for found in origin.json(f"/instances?SeriesInstanceUID={archive.mr_series}"):
        assert found[STUDY]["Value"] == [archive.studies["anna"]]
        assert found[SERIES]["Value"] == [archive.mr_series]
        assert found["00080060"]["Value"] == ["MR"]


def test_a_series_has_its_required_attributes(origin, archive):
    (series,) = origin.json(f"/studies/{archive.studies['anna']}/series?SeriesInstanceUID={archive.mr_series}")
    assert series["00080060"]["Value"] == ["MR"]
    assert series["0008103E"]["Value"] == ["Second"]
    assert series["00200011"]["Value"] == [7]
    assert series["00201209"]["Value"] == [2]
    assert series["00081190"]["Value"][0].endswith(f"/series/{archive.mr_series}")


def test_an_instance_has_its_required_attributes(origin, archive):
    path = f"/studies/{archive.studies['anna']}/series/{archive.mr_series}/instances"
    found = sorted(origin.json(path), key=lambda result: result["00200013"]["Value"])
    assert [result["00200013"]["Value"][0] for result in found] == [1, 2]
    for result in found:
        assert result["00080016"]["Value"] and result["00080018"]["Value"]
        assert (result["00280010"]["Value"], result["00280011"]["Value"]) == ([4], [6])
        assert result["00280100"]["Value"] == [16]


@pytest.mark.parametrize("fields", ["StudyDescription", "00081030", "all", "PatientAge&includefield=StudyDescription", "PatientAge,00081030"])
def test_included_fields_are_returned(origin, archive, fields):
    (study,) = origin.json(f"/studies?StudyInstanceUID={archive.studies['anna']}&includefield={fields}")
    assert study["00081030"]["Value"] == ["Study of anna"]


def test_an_attribute_of_a_sequence_is_matched_by_its_path(origin, archive):
    query = f"/series?AccessionNumber={archive.mark}&RequestAttributesSequence."
    for key, value, count in [
        ("ScheduledProcedureStepID", "STEP1", 1),
        ("ScheduledProcedureStepID", "STEP2", 0),
        ("00401001", "REQ1", 1),
    ]:
        assert len(origin.json(f"{query}{key}={value}")) == count, (key, value)
    assert len(origin.json(f"/series?AccessionNumber={archive.mark}&00400275.00400009=STEP1")) == 1


def test_an_attribute_that_is_not_indexed_is_matched_or_reported(origin, archive):
    answer = origin.get(f"/instances?AccessionNumber={archive.mark}&BodyPartExamined=HEAD", "application/dicom+json")
    assert answer.status_code == 200
    assert "Warning" in answer.headers or len(answer.json()) == 2


@pytest.mark.parametrize("query", ["limit=x", "limit=-1", "offset=x", "offset=-1", "StudyDate=yesterday"])
def test_a_wrong_parameter_is_400_and_named(origin, query):
    answer = origin.get(f"/studies?{query}", "application/dicom+json")
    assert answer.status_code == 400
    assert query.split("=")[0].lower() in answer.text.lower()


@pytest.mark.parametrize("parameter", ["NoSuchKeyword=1", "0010=1", "_=1700000000000"])
def test_an_unknown_parameter_is_ignored(origin, archive, parameter):
    """PS3.18 §8.3; viewers add parameters of their own, against caches."""
    answer = origin.get(f"/studies?AccessionNumber={archive.mark}&{parameter}", "application/dicom+json")
    assert answer.status_code == 200
    assert len(answer.json()) == 5


@pytest.mark.parametrize("accept", [None, "*/*", "application/json", "application/dicom+json", 'multipart/related; type="application/dicom+xml";q=0.5, application/dicom+json'])
def test_json_is_given_for_every_accept_that_allows_it(origin, archive, accept):
    answer = origin.get(f"/studies?AccessionNumber={archive.mark}", accept)
    assert answer.status_code == 200
    assert len(answer.json()) == 5


def test_what_a_viewer_sends_is_understood(origin, archive):
    query = f"limit=101&offset=0&fuzzymatching=false&includefield=00081030%2C00080060&AccessionNumber={archive.mark}&00100010=*M*"
    answer = origin.get(f"/studies?{query}", "application/dicom+json")
    assert answer.status_code == 200
    both = "%5C".join([archive.studies["anna"], archive.studies["hans"]])
    assert len(origin.json(f"/studies?StudyInstanceUID={both}")) == 2
    assert origin.json(f"/studies/{archive.studies['anna']}/series?includefield=0008103E%2C00200011")


def test_a_study_is_found_as_soon_as_its_store_is_answered(origin):
    data_set = image()
    origin.store(encode(data_set))
    assert uids(origin.json(f"{study_path(data_set)}/series"), SERIES) == [data_set.SeriesInstanceUID]
    assert uids(origin.json(f"{series_path(data_set)}/instances"), INSTANCE) == [data_set.SOPInstanceUID]


@pytest.mark.parametrize("path", ["/studies", "/series", "/instances", "{study}/series", "{study}/instances", "{series}/instances"])
def test_the_time_zone_is_returned_at_every_level(origin, path):
    """PS3.18 Tables 10.6.3-3, 10.6.3-4, 10.6.3-5."""
    data_set = instance(TimezoneOffsetFromUTC="+0530")
    origin.store(encode(data_set))
    path = path.format(study=study_path(data_set), series=series_path(data_set))
    (found,) = origin.json(f"{path}?StudyInstanceUID={data_set.StudyInstanceUID}")
    assert found["00080201"]["Value"] == ["+0530"]
