"""Retrieve Transaction of metadata (PS3.18 §10.4.1.1.2) in the DICOM JSON Model (Annex F)."""

import json

import pytest
from pydicom.dataset import Dataset

from build import encode, image, instance, instance_path, series_path, study_path
from conftest import JSON


@pytest.fixture(scope="module")
def series(origin):
    first = image(InstanceNumber=1)
    same = {"StudyInstanceUID": first.StudyInstanceUID, "SeriesInstanceUID": first.SeriesInstanceUID}
    data_sets = [first, image(InstanceNumber=2, **same)]
    origin.store(*map(encode, data_sets))
    return data_sets


def test_each_level_gives_a_list_of_its_instances(origin, series):
    for path, count in [(study_path(series[0]), 2), (series_path(series[0]), 2), (instance_path(series[0]), 1)]:
        found = origin.json(f"{path}/metadata")
        assert len(found) == count
        assert {one["00080018"]["Value"][0] for one in found} <= {data_set.SOPInstanceUID for data_set in series}


def test_metadata_equals_pydicoms(origin):
    item = Dataset()
    item.CodeValue, item.CodingSchemeDesignator, item.CodeMeaning = "T-A0100", "SRT", "Brain"
    data_set = image(
        SpecificCharacterSet="ISO_IR 192",
        PatientName="Yamada^Tarou=山田^太郎=やまだ^たろう",
        PatientComments="Grüße",
        ImageType=["ORIGINAL", "PRIMARY", ""],
        PixelSpacing=["0.5", "0.25"],
        InstanceNumber="3",
        ReferringPhysicianName="",
        AnatomicRegionSequence=[item],
        FrameIncrementPointer=0x00181063,
        SliceLocation="-12.50",
        SmallestImagePixelValue=5,
        DopplerSampleVolumeXPosition=-7,
        TableOfYBreakPoints=[1, 2, 3],
        RealWorldValueSlope=0.1,
    )
    origin.store(encode(data_set))
    (found,) = origin.json(f"{instance_path(data_set)}/metadata")
    expected = json.loads(data_set.to_json())
    expected.pop("7FE00010")
    assert found.pop("7FE00010")["BulkDataURI"]
    expected["00080005"] = found["00080005"]
    # What PS3.18 §10.4.1.1.2 lets a server add.
    found.pop("00083002", None)
    for tag in expected:
        assert found[tag]["vr"] == expected[tag]["vr"], tag
    assert level(found) == level(expected)


def level(value):
    """Numbers as numbers, however they were written; empty components left out."""
    if isinstance(value, dict):
        if value.get("vr") in ("DS", "IS", "FD", "FL") and "Value" in value:
            return {"vr": value["vr"], "Value": [float(number) for number in value["Value"]]}
        return {key: level(one) for key, one in value.items()}
    if isinstance(value, list):
        return [level(one) for one in value]
    return None if value == "" else value


def test_text_is_unicode_and_says_so(origin):
    data_set = instance(SpecificCharacterSet="ISO_IR 100", PatientName="Müller^Jörg")
    origin.store(encode(data_set))
    (found,) = origin.json(f"{instance_path(data_set)}/metadata")
    assert found["00080005"]["Value"] == ["ISO_IR 192"]
    assert found["00100010"]["Value"] == [{"Alphabetic": "Müller^Jörg"}]


def test_bulk_data_uris_lead_to_the_bytes(origin, series):
    for data_set in series:
        (found,) = origin.json(f"{instance_path(data_set)}/metadata")
        assert "InlineBinary" not in found["7FE00010"]
        answer = origin.session.get(found["7FE00010"]["BulkDataURI"], headers={"Accept": "application/octet-stream"})
        assert answer.status_code == 200
        assert answer.content == data_set.PixelData


def test_large_values_are_bulk_data_at_any_depth(origin):
    group = Dataset()
    group.WaveformBitsAllocated, group.WaveformSampleInterpretation = 16, "SS"
    group.WaveformData = bytes(range(256)) * 400
    group["WaveformData"].VR = "OW"
    data_set = instance(WaveformSequence=[Dataset(), group])
    origin.store(encode(data_set))
    (found,) = origin.json(f"{instance_path(data_set)}/metadata")
    value = found["54000100"]["Value"][1]["54001010"]
    answer = origin.session.get(value["BulkDataURI"], headers={"Accept": "application/octet-stream"})
    assert answer.content == group.WaveformData


def test_group_2_is_not_in_the_metadata(origin, series):
    (found,) = origin.json(f"{instance_path(series[0])}/metadata")
    assert not [tag for tag in found if tag.startswith("0002")]


@pytest.mark.parametrize(
    "accept",
    [
        None,
        "*/*",
        "application/json",
        JSON,
        f"{JSON}; charset=utf-8",
        f'{JSON}, multipart/related; type="application/octet-stream"; transfer-syntax=*',
        f'multipart/related; type="application/dicom+xml";q=0.2, {JSON}',
    ],
)
def test_json_is_given_for_every_accept_that_allows_it(origin, series, accept):
    answer = origin.get(f"{series_path(series[0])}/metadata", accept)
    assert answer.status_code == 200
    assert answer.headers["Content-Type"].split(";")[0] in (JSON, "application/json")
    assert len(answer.json()) == 2


def test_compressed_metadata_is_the_same(origin, series):
    path = f"{series_path(series[0])}/metadata"
    plain = origin.get(path, JSON, Accept_Encoding="identity")
    zipped = origin.get(path, JSON, Accept_Encoding="gzip")
    assert "Content-Encoding" not in plain.headers
    assert zipped.headers["Content-Encoding"] == "gzip"
    assert zipped.json() == plain.json()
    assert "accept-encoding" in zipped.headers["Vary"].lower()


def test_the_entity_tag_changes_with_the_series(origin):
    first = image()
    origin.store(encode(first))
    path = f"{series_path(first)}/metadata"
    etag = origin.get(path, JSON).headers["ETag"]
    assert origin.get(path, JSON, If_None_Match=etag).status_code == 304
    second = image(StudyInstanceUID=first.StudyInstanceUID, SeriesInstanceUID=first.SeriesInstanceUID)
    origin.store(encode(second))
    answer = origin.get(path, JSON, If_None_Match=etag)
    assert answer.status_code == 200 and len(answer.json()) == 2


def test_what_is_not_stored_is_404(origin):
    for path in [study_path, series_path, instance_path]:
        assert origin.get(f"{path(image())}/metadata", JSON).status_code == 404


def test_other_media_types_are_406(origin, series):
    assert origin.get(f"{series_path(series[0])}/metadata", "text/html").status_code == 406
