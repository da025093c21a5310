"""Metadata in the Native DICOM Model (PS3.19 §A.1.5), compared with documents written by hand and by dcmtk."""

import pytest
from pydicom.dataset import Dataset

import multipart
import native_model
from build import encode, image, instance, instance_path
from conftest import JSON

XML_PARTS = 'multipart/related; type="application/dicom+xml"'


def model(origin, data_set) -> dict:
    answer = origin.get(f"{instance_path(data_set)}/metadata", XML_PARTS)
    assert answer.status_code == 200
    (part,) = multipart.read(answer)
    return native_model.read(part.body)


@pytest.fixture(scope="module")
def everything(origin):
    item = Dataset()
    item.CodeValue, item.CodeMeaning = "T-A0100", "Brain <&> \"Hirn\""
    data_set = image(
        SpecificCharacterSet="ISO_IR 192",
        PatientName="Yamada^Tarou^^Dr.^MD=山田^太郎=やまだ^たろう",
        OtherPatientNames=["One^A", "Two^B"],
        PatientComments="Grüße,\r\nzweite Zeile\tTab",
        ImageType=["ORIGINAL", "PRIMARY", "", "AXIAL"],
        PixelSpacing=["0.5", "0.25"],
        InstanceNumber="3",
        AccessionNumber="",
        AnatomicRegionSequence=[item, Dataset()],
        FrameIncrementPointer=0x00181063,
        DopplerSampleVolumeXPosition=-7,
        RealWorldValueSlope=0.1,
    )
    data_set.add_new(0x00420011, "OB", b"%PDF")
    for group in (0x0009, 0x000B):
        block = data_set.private_block(group, "ACME & CO", create=True)
        block.add_new(0x01, "LO", "private")
    data_set.private_block(0x0009, "OTHER", create=True).add_new(0x01, "US", 7)
    origin.store(encode(data_set))
    return data_set, model(origin, data_set)


@pytest.mark.parametrize(
    "tag, vr, keyword, values",
    [
        ("00080008", "CS", "ImageType", ["ORIGINAL", "PRIMARY", "", "AXIAL"]),
        ("00080050", "SH", "AccessionNumber", []),
        ("00104000", "LT", "PatientComments", ["Grüße,\r\nzweite Zeile\tTab"]),
        ("00280009", "AT", "FrameIncrementPointer", ["00181063"]),
        ("00280010", "US", "Rows", ["4"]),
        ("00186039", "SL", "DopplerSampleVolumeXPosition", ["-7"]),
    ],
)
def test_values_are_numbered_text(everything, tag, vr, keyword, values):
    assert everything[1][tag, None] == {"vr": vr, "keyword": keyword, "values": values}


def test_numbers_keep_their_value(everything):
    _, found = everything
    assert [float(value) for value in found["00280030", None]["values"]] == [0.5, 0.25]
    assert float(found["00409225", None]["values"][0]) == 0.1


def test_a_name_is_taken_apart(everything):
    _, found = everything
    assert found["00100010", None]["values"] == [
        {
            "Alphabetic": {"FamilyName": "Yamada", "GivenName": "Tarou", "NamePrefix": "Dr.", "NameSuffix": "MD"},
            "Ideographic": {"FamilyName": "山田", "GivenName": "太郎"},
            "Phonetic": {"FamilyName": "やまだ", "GivenName": "たろう"},
        }
    ]
    assert [name["Alphabetic"]["FamilyName"] for name in found["00101001", None]["values"]] == ["One", "Two"]


def test_items_are_numbered_and_may_be_empty(everything):
    first, second = everything[1]["00082218", None]["values"]
    assert first["00080104", None]["values"] == ['Brain <&> "Hirn"']
    assert second == {}


def test_private_attributes_name_their_creator_in_place_of_the_block(everything):
    _, found = everything
    assert found["00090001", "ACME & CO"] == {"vr": "LO", "keyword": None, "values": ["private"]}
    assert found["000B0001", "ACME & CO"]["values"] == ["private"]
    assert found["00090001", "OTHER"]["values"] == ["7"]


def test_binary_values_are_inline_or_a_uri_that_leads_to_the_bytes(origin, everything):
    data_set, found = everything
    for tag, expected in [("00420011", b"%PDF"), ("7FE00010", data_set.PixelData)]:
        value = found[tag, None]
        if "uri" in value:
            answer = origin.session.get(value["uri"], headers={"Accept": "application/octet-stream"})
            assert answer.content == expected
        else:
            assert value["inline"] == expected


def test_there_are_no_group_lengths_and_no_file_meta_information(everything):
    for tag, _ in everything[1]:
        assert not tag.endswith("0000") and not tag.startswith("0002"), tag


def test_the_document_says_what_the_json_says(origin, everything):
    data_set, found = everything
    (json,) = origin.json(f"{instance_path(data_set)}/metadata")
    assert {tag for tag, creator in found if not creator} == {
        tag for tag in json if int(tag[3], 16) % 2 == 0 or tag[4:6] == "00"
    }
    assert len(found) == len(json)


@pytest.mark.parametrize("text", ["a\x1bb", "\x01\x02", "tab\there", "￾￿", "]]>", "<!--", "&amp;", "&#1;"])
def test_no_text_makes_a_document_that_is_not_well_formed(origin, text):
    data_set = instance(SpecificCharacterSet="ISO_IR 192", PatientComments=f"x{text}y", PatientName=f"A{text}^B")
    origin.store(encode(data_set))
    found = model(origin, data_set)
    (value,) = found["00104000", None]["values"]
    assert value.startswith("x") and value.endswith("y")
    if text.isprintable() and "￿" not in text:
        assert value == f"x{text}y"


def test_each_instance_is_a_part_of_its_own(origin):
    first = image(InstanceNumber=1)
    same = {"StudyInstanceUID": first.StudyInstanceUID, "SeriesInstanceUID": first.SeriesInstanceUID}
    data_sets = [first, *(image(InstanceNumber=number, **same) for number in range(2, 30))]
    origin.store(*map(encode, data_sets))
    for path in [f"/studies/{first.StudyInstanceUID}", f"/studies/{first.StudyInstanceUID}/series/{first.SeriesInstanceUID}"]:
        parts = multipart.read(origin.get(f"{path}/metadata", XML_PARTS))
        assert {part.headers["content-type"] for part in parts} == {"application/dicom+xml"}
        documents = [native_model.read(part.body) for part in parts]
        uids = {document["00080018", None]["values"][0] for document in documents}
        assert uids == {data_set.SOPInstanceUID for data_set in data_sets} and len(documents) == 29


@pytest.mark.parametrize("accept", [XML_PARTS, f"{XML_PARTS}, {JSON};q=0.5", "multipart/related; type=application/dicom+xml", f"{JSON};q=0.1, {XML_PARTS};q=0.9"])
def test_xml_is_given_where_it_is_preferred(origin, everything, accept):
    answer = origin.get(f"{instance_path(everything[0])}/metadata", accept)
    media_type, parameters = multipart.parameters(answer.headers["Content-Type"])
    assert (answer.status_code, media_type, parameters["type"]) == (200, "multipart/related", "application/dicom+xml")


# The second is the standard's own example (PS3.18 §B.16); its plus sign does not stand for a space.
@pytest.mark.parametrize("subtype", ["dicom%2Bxml", "dicom+xml"])
def test_the_accept_query_parameter_may_ask_for_xml(origin, everything, subtype):
    query = f"accept=multipart/related;type=%22application/{subtype}%22"
    answer = origin.get(f"{instance_path(everything[0])}/metadata?{query}", JSON)
    assert multipart.read(answer)
