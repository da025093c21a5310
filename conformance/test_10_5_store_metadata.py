"""Store Transaction of metadata and bulk data in parts of their own (PS3.18 §10.5.1.4, §8.6.1.2, §8.7.3.3)."""

import base64
import json
import warnings

import pydicom
import pytest
from pydicom.data import get_testdata_files
from pydicom.dataset import Dataset
from pydicom.encaps import generate_frames
from pydicom.uid import JPEG2000Lossless, JPEGBaseline8Bit, RLELossless, generate_uid

import multipart
from build import image, instance, instance_path

JSON, XML, RAW = "application/dicom+json", "application/dicom+xml", "application/octet-stream"
REFERENCED, FAILED = "00081199", "00081198"
# Line ends of XML are normalised unless they are references.
CARRIAGE_RETURN = {"\r": "&#13;"}
NAMESPACE = "http://dicom.nema.org/PS3.19/models/NativeDICOM"


def body(parts: list) -> bytes:
    """A multipart body of (media type, Content-Location or None, bytes)."""
    pieces = []
    for media_type, location, content in parts:
        head = f"--{multipart.BOUNDARY}\r\nContent-Type: {media_type}\r\n"
        head += f"Content-Location: {location}\r\n" if location else ""
        pieces += [head.encode(), b"\r\n", content, b"\r\n"]
    return b"".join([*pieces, f"--{multipart.BOUNDARY}--\r\n".encode()])


def store(origin, parts: list, root: str = JSON, accept: str = JSON, path: str = "/studies"):
    content_type = f'multipart/related; type="{root}"; boundary="{multipart.BOUNDARY}"'
    headers = {"Content-Type": content_type, "Accept": accept}
    return origin.request("POST", path, data=body(parts), headers=headers)


def split(data_set: Dataset, threshold: int = 1024) -> tuple:
    """The data set in the DICOM JSON model, and its bulk data by URI."""
    values = []

    def keep(element):
        values.append(element.value)
        return f"bulk/{data_set.SOPInstanceUID}/{len(values)}"

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        model = data_set.to_json_dict(threshold, keep)
    return model, [(f"bulk/{data_set.SOPInstanceUID}/{n}", value) for n, value in enumerate(values, 1)]


def stored(origin, path: str) -> Dataset:
    answer = origin.get(path, "application/dicom; transfer-syntax=*")
    assert answer.status_code == 200
    return pydicom.dcmread(pydicom.filebase.DicomBytesIO(answer.content))


def assert_equal(found: Dataset, sent: Dataset) -> None:
    """The same attributes with the same values; the character set may be another."""
    tags = {element.tag for element in sent if element.tag.element != 0} - {0x00080005}
    assert {element.tag for element in found} - {0x00080005} == tags
    for tag in tags:
        one, other = found[tag], sent[tag]
        if one.VR == "SQ":
            assert len(one.value) == len(other.value), tag
            for item, sent_item in zip(one.value, other.value):
                assert_equal(item, sent_item)
        elif isinstance(one.value, bytes):
            assert one.value.rstrip(b"\0") == bytes(other.value or b"").rstrip(b"\0"), tag
        else:
            assert one.value == other.value or str(one.value) == str(other.value), (tag, one.value, other.value)


def xml(model: dict) -> bytes:
    """A DICOM JSON object as a Native DICOM Model (PS3.19 §A.1)."""
    from xml.sax.saxutils import escape, quoteattr

    def attribute(tag, content):
        inner = ""
        if "BulkDataURI" in content:
            inner = f"<BulkData uri={quoteattr(content['BulkDataURI'])}/>"
        elif "InlineBinary" in content:
            inner = f"<InlineBinary>{content['InlineBinary']}</InlineBinary>"
        for number, value in enumerate(content.get("Value", []), 1):
            if content["vr"] == "SQ":
                inner += f'<Item number="{number}">{attributes(value)}</Item>'
            elif content["vr"] == "PN":
                inner += f'<PersonName number="{number}">{name(value or {})}</PersonName>'
            elif value is not None:
                inner += f'<Value number="{number}">{escape(str(value), CARRIAGE_RETURN)}</Value>'
        # pydicom leaves some choices open: `OB or OW`.
        vr = content["vr"].split(" or ")[-1]
        return f'<DicomAttribute tag="{tag}" vr="{vr}">{inner}</DicomAttribute>'

    def name(groups):
        parts = ["FamilyName", "GivenName", "MiddleName", "NamePrefix", "NameSuffix"]
        text = ""
        for group in ["Alphabetic", "Ideographic", "Phonetic"]:
            if groups.get(group):
                components = zip(parts, groups[group].split("^"))
                text += f"<{group}>" + "".join(f"<{p}>{escape(c)}</{p}>" for p, c in components if c) + f"</{group}>"
        return text

    def attributes(items):
        return "".join(attribute(tag, content) for tag, content in sorted(items.items()))

    return f'<?xml version="1.0"?><NativeDicomModel xmlns="{NAMESPACE}">{attributes(model)}</NativeDicomModel>'.encode()


def metadata(form: str, *models: dict) -> list:
    """The parts of the metadata of instances: one array in JSON, a document each in XML."""
    if form == JSON:
        return [(JSON, None, json.dumps(models).encode())]
    return [(XML, None, xml(model)) for model in models]


FORMS = pytest.mark.parametrize("form", [JSON, XML])


@FORMS
def test_metadata_and_bulk_data_make_an_instance(origin, form):
    data_set = image(frames=3)
    model, bulk = split(data_set, threshold=16)
    assert bulk
    answer = store(origin, metadata(form, model) + [(RAW, uri, value) for uri, value in bulk], root=form)
    assert answer.status_code == 200, answer.text
    (item,) = answer.json()[REFERENCED]["Value"]
    assert item["00081155"]["Value"] == [data_set.SOPInstanceUID]
    assert_equal(stored(origin, instance_path(data_set)), data_set)


@FORMS
def test_several_instances_come_in_one_request(origin, form):
    data_sets = [image(StudyInstanceUID="1.2.826.0.1.3680043.8.498.77") for _ in range(5)]
    models, parts = [], []
    for data_set in data_sets:
        model, bulk = split(data_set, threshold=16)
        models.append(model)
        parts += [(RAW, uri, value) for uri, value in bulk]
    answer = store(origin, metadata(form, *models) + parts, root=form)
    assert answer.status_code == 200, answer.text
    assert len(answer.json()[REFERENCED]["Value"]) == 5
    for data_set in data_sets:
        assert stored(origin, instance_path(data_set)).PixelData == data_set.PixelData


@pytest.mark.parametrize("absolute", [False, True])
def test_bulk_data_is_found_by_relative_and_absolute_location(origin, absolute):
    data_set = image()
    model, [(_, value)] = split(data_set, threshold=16)
    uri = f"{origin.url}/{generate_uid()}" if absolute else f"{generate_uid()}/1"
    model["7FE00010"]["BulkDataURI"] = uri
    assert store(origin, [*metadata(JSON, model), (RAW, uri, value)]).status_code == 200
    assert stored(origin, instance_path(data_set)).PixelData == data_set.PixelData


def test_inline_binary_needs_no_part(origin):
    data_set = image()
    model = data_set.to_json_dict()
    assert base64.b64decode(model["7FE00010"]["InlineBinary"]) == data_set.PixelData
    assert store(origin, metadata(JSON, model)).status_code == 200
    assert stored(origin, instance_path(data_set)).PixelData == data_set.PixelData


@FORMS
def test_every_value_representation_is_stored(origin, form):
    data_set = instance(PatientName="Yamada^Tarou=\u5c71\u7530^\u592a\u90ce=\u3084\u307e\u3060^\u305f\u308d\u3046")
    data_set.SpecificCharacterSet = "ISO_IR 192"
    data_set.ImageType = ["ORIGINAL", "PRIMARY", "AXIAL"]
    data_set.PatientAge, data_set.StudyTime, data_set.AcquisitionDateTime = "042Y", "101112.5", "20240101101112"
    data_set.PixelSpacing, data_set.InstanceNumber = ["0.25", "0.5"], "7"
    data_set.PatientComments = "line\r\nline \u00e4"
    data_set.StudyComments = "long \\ text"
    data_set.RetrieveAETitle = ["A", "B"]
    item = Dataset()
    item.CodeValue, item.CodingSchemeDesignator, item.CodeMeaning = "1", "99X", "\u00dcbung"
    data_set.ProcedureCodeSequence = [item, Dataset(), item]
    for offset, (vr, value) in enumerate(
        [
            ("AT", [0x00100020, 0x7FE00010]),
            ("FD", [1.5, -1e300]),
            ("FL", [0.5]),
            ("SL", [-(2**31)]),
            ("SS", [-(2**15), 3]),
            ("UL", [2**32 - 1]),
            ("US", [2**16 - 1]),
            ("SV", [-(2**63)]),
            ("UV", [2**64 - 1]),
            ("OB", b"\1\2\3\4"),
            ("OW", b"\1\2"),
            ("OF", b"\1\2\3\4"),
            ("OD", b"\1\2\3\4\5\6\7\x08"),
            ("OL", b"\1\2\3\4"),
            ("OV", b"\1\2\3\4\5\6\7\x08"),
            ("UC", ["any", "length"]),
            ("UR", "http://h/x?a=b"),
            ("UT", "text"),
            ("UN", b"\1\2"),
            ("LO", ["a", "", "b"]),
        ]
    ):
        data_set.private_block(0x0099, "CONFORMANCE TEST", create=True).add_new(offset, vr, value)
    model = data_set.to_json_dict()
    answer = store(origin, metadata(form, model), root=form)
    assert answer.status_code == 200, answer.text
    assert_equal(stored(origin, instance_path(data_set)), data_set)


def compressed(name: str) -> Dataset:
    """A file of pydicom under UIDs of its own: some have none."""
    data_set = pydicom.dcmread(pydicom.data.get_testdata_file(name))
    for keyword in ["StudyInstanceUID", "SeriesInstanceUID", "SOPInstanceUID"]:
        setattr(data_set, keyword, generate_uid())
    return data_set


@pytest.mark.parametrize(
    ("name", "media_type", "names_syntax"),
    [
        ("JPEG-LL.dcm", "image/jpeg", True),
        ("SC_rgb_small_odd_jpeg.dcm", "image/jpeg", True),
        ("JPEGLSNearLossless_16.dcm", "image/jls", True),
        ("JPEG2000.dcm", "image/jp2", True),
        ("MR_small_jp2klossless.dcm", "image/jp2", False),
        ("MR_small_RLE.dcm", "image/dicom-rle", False),
        ("SC_rgb_rle_2frame.dcm", "image/dicom-rle", True),
        ("emri_small_jpeg_2k_lossless.dcm", "image/jp2", True),
        ("emri_small_RLE.dcm", "image/dicom-rle", True),
    ],
)
def test_compressed_frames_are_encapsulated(origin, name, media_type, names_syntax):
    data_set = compressed(name)
    frames = list(generate_frames(data_set.PixelData, number_of_frames=int(data_set.get("NumberOfFrames", 1))))
    syntax = data_set.file_meta.TransferSyntaxUID
    model, bulk = split(data_set, threshold=16)
    uri = model["7FE00010"]["BulkDataURI"]
    kind = f"{media_type}; transfer-syntax={syntax}" if names_syntax else media_type
    parts = [(RAW, place, value) for place, value in bulk if place != uri] + [(kind, uri, frame) for frame in frames]
    answer = store(origin, metadata(JSON, model) + parts)
    assert answer.status_code in (200, 202), answer.text
    found = stored(origin, instance_path(data_set))
    assert found.file_meta.TransferSyntaxUID == syntax
    again = list(generate_frames(found.PixelData, number_of_frames=len(frames)))
    assert [frame.rstrip(b"\0") for frame in again] == [frame.rstrip(b"\0") for frame in frames]


@pytest.mark.parametrize(
    ("name", "media_type", "syntax"),
    [
        ("SC_rgb_small_odd_jpeg.dcm", "image/jpeg", JPEGBaseline8Bit),
        ("MR_small_jp2klossless.dcm", "image/jp2", JPEG2000Lossless),
    ],
)
def test_the_image_pixel_description_may_be_left_out(origin, name, media_type, syntax):
    data_set = compressed(name)
    (frame,) = generate_frames(data_set.PixelData, number_of_frames=1)
    model, _ = split(data_set)
    tags = ["00280002", "00280004", "00280006", "00280010", "00280011", "00280100", "00280101", "00280102", "00280103"]
    for tag in tags:
        model.pop(tag, None)
    model["7FE00010"] = {"vr": "OB", "BulkDataURI": "pixels"}
    answer = store(origin, [*metadata(JSON, model), (media_type, "pixels", frame)])
    assert answer.status_code == 200, answer.text
    found = stored(origin, instance_path(data_set))
    assert found.file_meta.TransferSyntaxUID == syntax
    for keyword in ["Rows", "Columns", "SamplesPerPixel", "BitsAllocated", "BitsStored", "HighBit"]:
        assert found[keyword].value == data_set[keyword].value, keyword


def native_files() -> list:
    """Files of pydicom that hold an instance in an uncompressed syntax, and that pydicom can write as metadata, by name."""
    names = []
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for path in get_testdata_files("*.dcm"):
            try:
                data_set = pydicom.dcmread(path, stop_before_pixels=True)
                syntax = data_set.file_meta.TransferSyntaxUID
                whole = all(keyword in data_set for keyword in ["SOPClassUID", "StudyInstanceUID", "SeriesInstanceUID"])
                if whole and not syntax.is_compressed and syntax.is_little_endian:
                    split(pydicom.dcmread(path))
                    names.append(path.replace("\\", "/").split("test_files/")[-1])
            except Exception:
                continue
    return sorted(set(names))


@FORMS
@pytest.mark.parametrize("name", native_files())
def test_files_come_back_as_they_went_in_metadata_and_bulk_data(origin, name, form):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        data_set = pydicom.dcmread(pydicom.data.get_testdata_file(name.split("/")[-1]))
        data_set.SOPInstanceUID = generate_uid()
        data_set.SeriesInstanceUID = generate_uid()
        model, bulk = split(data_set)
        for tag in [tag for tag in model if tag.endswith("0000") or tag.startswith("FFFC")]:
            del model[tag]
        answer = store(origin, metadata(form, model) + [(RAW, uri, value) for uri, value in bulk], root=form)
        assert answer.status_code in (200, 202), answer.text
        found = stored(origin, instance_path(data_set))
        if "PixelData" in data_set:
            assert found.PixelData == data_set.PixelData
        assert set(found.to_json_dict()) - {"00080005"} == set(model) - {"00080005"}


@FORMS
def test_the_answer_is_in_the_form_that_is_accepted(origin, form):
    answer = store(origin, metadata(form, instance().to_json_dict()), root=form, accept=form)
    assert answer.status_code == 200
    assert answer.headers["Content-Type"].startswith(form)
    if form == XML:
        assert b"NativeDicomModel" in answer.content and b"ReferencedSOPSequence" in answer.content


def test_missing_bulk_data_is_a_failure_of_its_instance_alone(origin):
    whole, broken = image(), image()
    model, bulk = split(whole, threshold=16)
    other, _ = split(broken, threshold=16)
    answer = store(origin, metadata(JSON, other, model) + [(RAW, uri, value) for uri, value in bulk])
    assert answer.status_code == 202
    (failure,) = answer.json()[FAILED]["Value"]
    assert failure["00081155"]["Value"] == [broken.SOPInstanceUID]
    assert origin.get(instance_path(broken), "application/dicom").status_code == 404
    assert stored(origin, instance_path(whole)).PixelData == whole.PixelData


@pytest.mark.parametrize("tag", ["00080016", "00080018", "0020000D", "0020000E"])
def test_metadata_without_identity_is_refused(origin, tag):
    model = instance().to_json_dict()
    del model[tag]
    assert store(origin, metadata(JSON, model)).status_code == 409


def test_metadata_of_another_study_than_the_url_is_refused(origin):
    data_set = instance()
    answer = store(origin, metadata(JSON, data_set.to_json_dict()), path=f"/studies/{generate_uid()}")
    assert answer.status_code == 409
    assert origin.get(instance_path(data_set), "application/dicom").status_code == 404


@pytest.mark.parametrize("text", [b"", b"{", b"text", b"[[]]", b'[{"00100020":1}]', b"\xff\xfe"])
@FORMS
def test_what_is_no_metadata_is_an_error_of_the_request(origin, text, form):
    assert store(origin, [(form, None, text)], root=form).status_code in (400, 409)


def test_rle_frames_without_their_number_are_one_each(origin):
    data_set = compressed("SC_rgb_rle_2frame.dcm")
    frames = list(generate_frames(data_set.PixelData, number_of_frames=2))
    model, _ = split(data_set)
    model["7FE00010"] = {"vr": "OB", "BulkDataURI": "pixels"}
    parts = [("image/dicom-rle", "pixels", frames[0])]
    assert store(origin, metadata(JSON, model) + parts).status_code == 409, "two frames are announced"
    parts.append(("image/dicom-rle", "pixels", frames[1]))
    assert store(origin, metadata(JSON, model) + parts).status_code in (200, 202)
    assert stored(origin, instance_path(data_set)).file_meta.TransferSyntaxUID == RLELossless
