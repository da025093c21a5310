"""Rendered documents, videos and structured reports (PS3.18 §10.4.1.1.3, Table 8.7.4-1)."""

import re
from html.parser import HTMLParser
from xml.etree import ElementTree

import pytest
from pydicom import dcmread
from pydicom.data import get_testdata_file
from pydicom.dataset import Dataset
from pydicom.encaps import encapsulate
from pydicom.sequence import Sequence
from pydicom.uid import (
    BasicTextSRStorage,
    ComprehensiveSRStorage,
    EncapsulatedCDAStorage,
    EncapsulatedPDFStorage,
    EncapsulatedSTLStorage,
    MPEG2MPML,
    MPEG4HP41,
    VideoPhotographicImageStorage,
)

from build import encode, instance, instance_path

PDF = b"%PDF-1.4\n" + b"1 0 obj\n" * 400 + b"%%EOF\n"


def document(sop_class, content: bytes, media_type: str) -> Dataset:
    data_set = instance(SOPClassUID=sop_class, Modality="DOC")
    data_set.EncapsulatedDocument = content + b"\0" * (len(content) % 2)
    data_set.EncapsulatedDocumentLength = len(content)
    data_set.MIMETypeOfEncapsulatedDocument = media_type
    return data_set


def video(transfer_syntax, fragments: list) -> bytes:
    data_set = instance(SOPClassUID=VideoPhotographicImageStorage, Modality="XC")
    data_set.SamplesPerPixel, data_set.PhotometricInterpretation = 3, "YBR_PARTIAL_420"
    data_set.Rows, data_set.Columns, data_set.NumberOfFrames, data_set.PlanarConfiguration = 4, 4, 30, 0
    data_set.BitsAllocated, data_set.BitsStored, data_set.HighBit, data_set.PixelRepresentation = 8, 8, 7, 0
    data_set.PixelData = encapsulate(fragments, has_bot=False)
    data_set["PixelData"].VR, data_set["PixelData"].is_undefined_length = "OB", True
    return data_set, encode(data_set, transfer_syntax)


def code(value: str, scheme: str, meaning: str) -> Sequence:
    item = Dataset()
    item.CodeValue, item.CodingSchemeDesignator, item.CodeMeaning = value, scheme, meaning
    return Sequence([item])


def item(value_type: str, name: str, relationship: str = "CONTAINS", **attributes) -> Dataset:
    content = Dataset()
    content.RelationshipType, content.ValueType = relationship, value_type
    content.ConceptNameCodeSequence = code("1", "99TEST", name)
    for keyword, value in attributes.items():
        setattr(content, keyword, value)
    return content


def report(*items, sop_class=ComprehensiveSRStorage, **attributes) -> Dataset:
    data_set = instance(SOPClassUID=sop_class, Modality="SR", **attributes)
    data_set.ValueType, data_set.ContinuityOfContent = "CONTAINER", "SEPARATE"
    data_set.ConceptNameCodeSequence = code("126000", "DCM", "Imaging Measurement Report")
    data_set.ContentSequence = Sequence(items)
    return data_set


def rendered(origin, data_set: Dataset, accept: str, **headers):
    return origin.get(f"{instance_path(data_set)}/rendered", accept, **headers)


class Reader(HTMLParser):
    """The text of a page, its links, and every element's name."""

    def __init__(self, page: str):
        super().__init__()
        self.text, self.links, self.elements, self.attributes = "", [], set(), set()
        self.feed(page)

    def handle_starttag(self, tag, attributes):
        self.elements.add(tag)
        self.attributes.update(name for name, _ in attributes)
        self.links += [value for name, value in attributes if name == "href"]

    def handle_data(self, data):
        self.text += data


def page(origin, data_set: Dataset) -> Reader:
    answer = rendered(origin, data_set, "text/html")
    assert answer.status_code == 200, answer.text[:300]
    assert answer.headers["Content-Type"].replace(" ", "").lower() == "text/html;charset=utf-8"
    return Reader(answer.content.decode("utf-8"))


@pytest.mark.parametrize(
    "sop_class, content, media_type",
    [
        (EncapsulatedPDFStorage, PDF, "application/pdf"),
        (EncapsulatedPDFStorage, PDF + b"\n", "application/pdf"),
        (EncapsulatedPDFStorage, b"%PDF-1.4\n%%EOF\n", "application/pdf"),
        (EncapsulatedCDAStorage, b"<ClinicalDocument xmlns='urn:hl7-org:v3'/>", "text/XML"),
        (EncapsulatedCDAStorage, b"<ClinicalDocument xmlns='urn:hl7-org:v3' />", "text/XML"),
        (EncapsulatedSTLStorage, b"\0" * 80 + b"\1\0\0\0" + b"\0" * 50, "model/stl"),
    ],
)
def test_an_encapsulated_document_is_given_without_its_padding(origin, sop_class, content, media_type):
    data_set = document(sop_class, content, media_type)
    origin.store(encode(data_set))
    answer = rendered(origin, data_set, "*/*")
    assert answer.status_code == 200
    assert answer.headers["Content-Type"].lower() == media_type.lower()
    assert answer.content == content


@pytest.mark.parametrize("accept", ["application/pdf", "application/*", "text/html, application/pdf;q=0.1", "image/png, */*"])
def test_a_pdf_is_given_to_clients_that_accept_it(origin, accept):
    data_set = document(EncapsulatedPDFStorage, PDF, "application/pdf")
    origin.store(encode(data_set))
    assert rendered(origin, data_set, accept).content == PDF


@pytest.mark.parametrize("accept", ["image/jpeg", "text/html", "video/mp4", "application/pdf;q=0"])
def test_a_pdf_is_given_in_no_other_form(origin, accept):
    data_set = document(EncapsulatedPDFStorage, PDF, "application/pdf")
    origin.store(encode(data_set))
    assert rendered(origin, data_set, accept).status_code == 406


@pytest.mark.parametrize("fragments", [1, 2, 5])
@pytest.mark.parametrize("transfer_syntax, media_type", [(MPEG2MPML, "video/mpeg"), (MPEG4HP41, "video/mp4")])
def test_a_video_is_given_as_one_stream(origin, transfer_syntax, media_type, fragments):
    stream = bytes(range(256)) * 40
    size = len(stream) // fragments // 2 * 2
    pieces = [stream[size * n : size * (n + 1) if n < fragments - 1 else None] for n in range(fragments)]
    data_set, file = video(transfer_syntax, pieces)
    origin.store(file)
    answer = rendered(origin, data_set, "*/*")
    assert (answer.status_code, answer.headers["Content-Type"]) == (200, media_type)
    assert answer.content == stream


@pytest.mark.parametrize(
    "asked, status, content_range",
    [
        ("bytes=0-", 206, "bytes 0-9999/10000"),
        ("bytes=4000-4999", 206, "bytes 4000-4999/10000"),
        ("bytes=-500", 206, "bytes 9500-9999/10000"),
        ("bytes=9000-99999", 206, "bytes 9000-9999/10000"),
        ("bytes=10000-", 416, "bytes */10000"),
    ],
)
def test_ranges_of_a_video_can_be_had(origin, asked, status, content_range):
    stream = bytes(range(250)) * 40
    data_set, file = video(MPEG4HP41, [stream[:3000], stream[3000:7000], stream[7000:]])
    origin.store(file)
    answer = rendered(origin, data_set, "*/*", Range=asked)
    assert (answer.status_code, answer.headers["Content-Range"]) == (status, content_range)
    if status == 206:
        first, last = re.match(r"bytes (\d+)-(\d+)/", content_range).groups()
        assert answer.content == stream[int(first) : int(last) + 1]


def test_a_document_is_validated_by_its_tag(origin):
    data_set = document(EncapsulatedPDFStorage, PDF, "application/pdf")
    origin.store(encode(data_set))
    tag = rendered(origin, data_set, "*/*").headers["ETag"]
    assert rendered(origin, data_set, "*/*", If_None_Match=tag).status_code == 304


@pytest.mark.parametrize("accept", ["text/html", "text/*", "*/*", "text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8"])
def test_a_report_is_html_by_default(origin, accept):
    data_set = report(item("TEXT", "Finding", TextValue="none"))
    origin.store(encode(data_set))
    answer = rendered(origin, data_set, accept)
    assert answer.status_code == 200
    assert answer.headers["Content-Type"].startswith("text/html")


def test_a_report_is_plain_text_for_clients_that_prefer_it(origin):
    data_set = report(item("TEXT", "Finding", TextValue="a <small> mass"))
    origin.store(encode(data_set))
    answer = rendered(origin, data_set, "text/plain, text/html;q=0.5")
    assert answer.headers["Content-Type"].startswith("text/plain")
    assert "a <small> mass" in answer.content.decode("utf-8")


def test_a_report_is_xml_for_clients_that_ask_for_it(origin):
    data_set = report(item("TEXT", "Finding", TextValue="a <small> & 'odd' mass\x0c"))
    origin.store(encode(data_set))
    answer = rendered(origin, data_set, "text/xml")
    assert answer.status_code == 200
    assert answer.headers["Content-Type"].startswith("text/xml")
    text = "".join(ElementTree.fromstring(answer.content).itertext())
    assert "a <small> & 'odd' mass" in text
    html = rendered(origin, data_set, "text/html")
    assert "ETag" not in answer.headers or answer.headers["ETag"] != html.headers.get("ETag")


def test_a_report_says_whom_it_is_about(origin):
    data_set = report(item("TEXT", "Finding", TextValue="none"), PatientName="Doe^Jane", PatientID="PID-7", StudyDescription="Thorax")
    origin.store(encode(data_set))
    text = page(origin, data_set).text
    for expected in ["Imaging Measurement Report", "Jane", "Doe", "PID-7", "Thorax"]:
        assert expected in text


@pytest.mark.parametrize(
    "content, expected",
    [
        (item("TEXT", "History", TextValue="cough"), ["History", "cough"]),
        (item("CODE", "Shape", ConceptCodeSequence=code("2", "99TEST", "round")), ["Shape", "round"]),
        (item("PNAME", "Observer", PersonName="Roe^Richard"), ["Observer", "Roe", "Richard"]),
        (item("DATE", "Seen", Date="20240131"), ["Seen", "2024", "31"]),
        (item("TIME", "At", Time="101500"), ["At", "10", "15"]),
        (item("DATETIME", "When", DateTime="20240131101500"), ["When", "2024", "10", "15"]),
        (item("UIDREF", "Device", UID="1.2.3.4.5"), ["Device", "1.2.3.4.5"]),
        (item("CONTAINER", "Findings", ContinuityOfContent="SEPARATE", ContentSequence=Sequence([item("TEXT", "Lung", TextValue="clear")])), ["Findings", "Lung", "clear"]),
    ],
)
def test_a_report_shows_items_of_every_value_type(origin, content, expected):
    data_set = report(content)
    origin.store(encode(data_set))
    text = page(origin, data_set).text
    for word in expected:
        assert word in text, text


def test_a_report_shows_measurements_with_their_units(origin):
    measured = Dataset()
    measured.NumericValue, measured.MeasurementUnitsCodeSequence = "12.5", code("mm", "UCUM", "millimeter")
    data_set = report(item("NUM", "Diameter", MeasuredValueSequence=Sequence([measured])))
    origin.store(encode(data_set))
    text = page(origin, data_set).text
    assert "Diameter" in text
    assert re.search(r"12\.5\s*(mm|millimeter)", text)


def test_a_report_links_to_the_images_of_its_evidence(origin):
    image = instance()
    referenced = Dataset()
    referenced.ReferencedSOPClassUID, referenced.ReferencedSOPInstanceUID = image.SOPClassUID, image.SOPInstanceUID
    series = Dataset()
    series.SeriesInstanceUID, series.ReferencedSOPSequence = image.SeriesInstanceUID, Sequence([referenced])
    study = Dataset()
    study.StudyInstanceUID, study.ReferencedSeriesSequence = image.StudyInstanceUID, Sequence([series])
    data_set = report(item("IMAGE", "Source", ReferencedSOPSequence=Sequence([referenced])))
    data_set.CurrentRequestedProcedureEvidenceSequence = Sequence([study])
    origin.store(encode(data_set))
    links = page(origin, data_set).links
    assert [link for link in links if instance_path(image) in link], links


@pytest.mark.parametrize("text", ["<script>alert(1)</script>", '"><img src=x onerror=alert(1)>', "&lt;b&gt;", "</style><script>x</script>", "' onload='x"])
def test_the_text_of_a_report_stays_text(origin, text):
    data_set = report(
        item("TEXT", text, TextValue=text),
        item("CODE", "Code", ConceptCodeSequence=code("1", "99TEST", text)),
        PatientID=text,
        StudyDescription=text,
        SpecificCharacterSet="ISO_IR 192",
    )
    origin.store(encode(data_set))
    read = page(origin, data_set)
    assert not read.elements & {"script", "img"}
    assert not [name for name in read.attributes if name.startswith("on")]
    assert read.text.count(text) >= 2


def test_a_report_is_in_utf_8_whatever_it_is_stored_in(origin):
    data_set = report(item("TEXT", "Befund", TextValue="Größe: 3 µm"), SpecificCharacterSet="ISO_IR 100")
    origin.store(encode(data_set))
    assert "Größe: 3 µm" in page(origin, data_set).text


def test_a_report_nested_to_any_depth_is_answered(origin):
    content = item("TEXT", "Innermost", TextValue="here")
    for _ in range(25):
        content = item("CONTAINER", "Level", ContinuityOfContent="SEPARATE", ContentSequence=Sequence([content]))
    data_set = report(content)
    origin.store(encode(data_set))
    assert "Innermost" in page(origin, data_set).text


@pytest.mark.parametrize("name, expected", [("reportsi.dcm", ["Document Title", "Section Heading"]), ("test-SR.dcm", ["Diagnosis", "was detected."])])
def test_reports_that_others_wrote_are_rendered(origin, name, expected):
    data_set = dcmread(get_testdata_file(name))
    with open(get_testdata_file(name), "rb") as file:
        origin.store(file.read())
    text = page(origin, data_set).text
    for words in expected:
        assert words in text, text


def test_a_report_without_content_is_a_page(origin):
    data_set = report(sop_class=BasicTextSRStorage)
    origin.store(encode(data_set))
    assert "Imaging Measurement Report" in page(origin, data_set).text
