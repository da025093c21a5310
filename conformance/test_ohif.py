"""The requests of OHIF 3.13, as recorded in a browser: each must be answered (PS3.18 §8, §10)."""

import pytest
from pydicom.dataset import Dataset
from pydicom.encaps import encapsulate
from pydicom.uid import MPEG4HP41, EncapsulatedPDFStorage, VideoPhotographicImageStorage

import multipart
from build import encode, image, instance, instance_path, series_path, study_path

JSON = "application/dicom+json"
FRAME = "multipart/related; type=application/octet-stream; transfer-syntax=*"
DOCUMENT = (
    "text/html,application/xhtml+xml,application/xml;q=0.9,image/jxl,image/avif,image/webp,image/apng,*/*;q=0.8,"
    "application/signed-exchange;v=b3;q=0.7"
)
PAGE = "limit=101&offset=0&fuzzymatching=true&includefield=00081030%2C00080060%2C00080090%2C00100030"
MP4 = b"\0\0\0\x18ftypmp42\0\0\0\0mp42isom" + bytes(1000)


@pytest.fixture(scope="module")
def ct(origin) -> Dataset:
    data_set = image(frames=2, rows=64, columns=64, PatientID="PROMED0051", StudyDescription="Head", SeriesNumber=1)
    origin.store(encode(data_set))
    return data_set


def sought(origin, path: str, data_set: Dataset) -> bool:
    """Whether a search finds the study of a data set."""
    answer = origin.get(path, JSON)
    assert answer.status_code == 200, answer.text
    return any(study["0020000D"]["Value"] == [data_set.StudyInstanceUID] for study in answer.json())


@pytest.mark.parametrize(
    "query",
    [
        PAGE,
        f"PatientName=*Jane*&{PAGE}",
        f"AccessionNumber=*1*&{PAGE}",
        f"00100020=PROMED0051&{PAGE}",
        "PatientName=*Doe*&00100020=*PROMED0051*&AccessionNumber=*A1*&StudyDescription=*Head*&ModalitiesInStudy=CT&"
        f"{PAGE}&StudyDate=20240101-20241231",
        PAGE.replace("fuzzymatching=true", "fuzzymatching=false"),
    ],
)
def test_its_searches_for_studies_find_them(origin, ct, query):
    assert sought(origin, f"/studies?{query}", ct)


def test_studies_are_found_by_uid_alone_and_in_lists(origin, ct):
    other = image()
    origin.store(encode(other))
    assert sought(origin, f"/studies?{PAGE}&StudyInstanceUID={ct.StudyInstanceUID}", ct)
    both = f"/studies?{PAGE}&StudyInstanceUID={ct.StudyInstanceUID}%5C{other.StudyInstanceUID}"
    assert sought(origin, both, ct) and sought(origin, both, other)


def test_a_study_that_is_not_there_is_an_empty_list(origin):
    answer = origin.get(f"/studies?{PAGE}&StudyInstanceUID=1.2.3.4.5", JSON)
    assert answer.status_code in (200, 204) and (answer.text or "[]") == "[]"


@pytest.mark.parametrize("fields", ["0008103E%2C00080021", "00080021%2C00080031%2C0008103E%2C00200011"])
def test_its_search_for_series_finds_them(origin, ct, fields):
    series = origin.json(f"{study_path(ct)}/series?includefield={fields}")
    assert [one["0020000E"]["Value"] for one in series] == [[ct.SeriesInstanceUID]]


@pytest.mark.parametrize(
    "accept",
    [JSON, f'{JSON}, multipart/related; type="application/octet-stream"; transfer-syntax=*'],
)
def test_metadata_of_a_series(origin, ct, accept):
    answer = origin.get(f"{series_path(ct)}/metadata", accept)
    assert answer.status_code == 200
    assert answer.json()[0]["00080018"]["Value"] == [ct.SOPInstanceUID]


@pytest.mark.parametrize("accept", [FRAME, FRAME.replace("=application/octet-stream", '="application/octet-stream"')])
def test_frames_one_by_one(origin, ct, accept):
    for number in [1, 2]:
        answer = origin.get(f"{instance_path(ct)}/frames/{number}", accept)
        assert answer.status_code == 200
        assert len(multipart.read(answer)[0].body) == 2 * 64 * 64


def test_the_beginning_of_a_frame_is_given_with_its_place_or_as_a_whole(origin, ct):
    answer = origin.get(f"{instance_path(ct)}/frames/1", FRAME, Range="bytes=0-65535")
    assert answer.status_code in (200, 206)
    if answer.status_code == 206:
        assert answer.headers["Content-Range"].startswith("bytes 0-")


def test_a_whole_instance_for_segmentations(origin, ct):
    answer = origin.get(instance_path(ct), 'multipart/related; type="application/dicom"')
    assert answer.status_code == 200


@pytest.mark.parametrize("level", [study_path, series_path, instance_path])
@pytest.mark.parametrize(
    "query, accept", [("viewport=256%2C256", "image/jpeg"), ("accept=image%2Fjpeg", "*/*"), ("accept=image/jpeg", DOCUMENT)]
)
def test_thumbnails(origin, ct, level, query, accept):
    answer = origin.get(f"{level(ct)}/thumbnail?{query}", accept)
    assert answer.status_code == 200
    assert answer.headers["Content-Type"] == "image/jpeg"


def test_a_pdf_in_an_object_of_its_page(origin):
    pdf = b"%PDF-1.4\n%%EOF\n"
    data_set = instance(SOPClassUID=EncapsulatedPDFStorage, Modality="DOC", MIMETypeOfEncapsulatedDocument="application/pdf")
    data_set.EncapsulatedDocument, data_set.EncapsulatedDocumentLength = pdf + b"\0", len(pdf)
    origin.store(encode(data_set))
    answer = origin.get(f"{instance_path(data_set)}/rendered", DOCUMENT)
    assert answer.status_code == 200
    assert answer.headers["Content-Type"] == "application/pdf"
    assert answer.content.startswith(b"%PDF")
    metadata = origin.json(f"{instance_path(data_set)}/metadata")[0]["00420011"]
    assert "BulkDataURI" in metadata or "InlineBinary" in metadata


def test_a_video_plays_from_any_place(origin):
    data_set = image(SOPClassUID=VideoPhotographicImageStorage, Modality="XC", NumberOfFrames=2)
    data_set.SamplesPerPixel, data_set.PhotometricInterpretation, data_set.PlanarConfiguration = 3, "YBR_PARTIAL_420", 0
    data_set.BitsAllocated, data_set.BitsStored, data_set.HighBit = 8, 8, 7
    data_set.PixelData = encapsulate([MP4])
    data_set["PixelData"].VR = "OB"
    origin.store(encode(data_set, MPEG4HP41))
    for place, start in [("bytes=0-", 0), ("bytes=500-", 500)]:
        answer = origin.get(f"{instance_path(data_set)}/rendered", "*/*", Range=place)
        assert answer.status_code == 206
        assert answer.headers["Content-Type"] == "video/mp4"
        assert answer.headers["Content-Range"].startswith(f"bytes {start}-")
        assert answer.content[:500] == MP4[start : start + 500]


def test_bulk_data_without_parts_for_waveforms(origin):
    data_set = image(rows=64, columns=64)
    origin.store(encode(data_set))
    uri = origin.json(f"{instance_path(data_set)}/metadata")[0]["7FE00010"]["BulkDataURI"]
    answer = origin.session.get(uri, headers={"Accept": "application/octet-stream"}, timeout=60)
    assert answer.status_code == 200
    assert answer.content == data_set.PixelData


def test_a_file_is_stored_as_it_sends_it(origin):
    data_set = image()
    boundary = "104c0481-22a7-461f-e263-1d7d1301cfac"
    head = f"\r\n--{boundary}\r\nContent-Type: application/dicom\r\n\r\n".encode()
    body = head + encode(data_set) + f"\r\n--{boundary}--".encode()
    headers = {"Accept": "*/*", "Content-Type": f'multipart/related; type="application/dicom"; boundary="{boundary}"'}
    answer = origin.request("POST", "/studies", data=body, headers=headers)
    assert answer.status_code == 200
    assert origin.json(f"{instance_path(data_set)}/metadata")
