"""The requests of viewers and libraries, with the URLs and header fields that their sources or recordings have (PS3.18 §8, §9, §10).

OHIF 3.13 (recorded in a browser; more in test_ohif.py), Slim with dicom-microscopy-viewer, dicomweb-client for JavaScript and for Python,
Weasis 4 and dcm4chee's archive UI.
"""

import os
import re

import pytest
import requests
from pydicom.encaps import encapsulate
from pydicom.uid import JPEGBaseline8Bit

import multipart
from build import encode, frame_bytes, image, instance_path, series_path, study_path

JSON = "application/dicom+json"
JPEG = "image/jpeg"
ANY = "*/*"
DICOM = "application/dicom"
PARTS = "multipart/related"
BROWSER = "application/json, text/plain, */*"
WEASIS = f'{PARTS};type="{DICOM}";transfer-syntax=*'
WEASIS_STUDY = "00080020,00080030,00080050,00080061,00080090,00081030,00100010,00100020,00100021,00100030,00100040,0020000D,00200010"
URI = "requestType=WADO&studyUID={study}&seriesUID={series}&objectUID={instance}"

# Client, path (a WADO-URI query if it has no slash in front), Accept, media type of the answer.
REQUESTS = [
    ("OHIF", "/studies?limit=101&offset=0&fuzzymatching=true&includefield=00081030%2C00080060%2C00080090%2C00100030", JSON, JSON),
    ("OHIF", "/studies/{study}/series?includefield=0008103E%2C00080021", JSON, JSON),
    ("OHIF", "/studies/{study}/series/{series}/metadata", JSON, JSON),
    ("OHIF", "/studies/{study}/series/{series}/instances/{instance}/frames/1", f"{PARTS}; type=application/octet-stream; transfer-syntax=*", PARTS),
    ("OHIF", "/studies/{study}/series/{series}/instances?limit=1&includefield=00080018", JSON, JSON),
    ("OHIF", "/studies/{study}/series/{series}/instances/{instance}/thumbnail?viewport=256%2C256", JPEG, JPEG),
    ("OHIF", "/studies/{study}/series/{series}/instances/{instance}", f'{PARTS}; type="{DICOM}"', PARTS),
    ("Slim", "/studies/{study}/series/{series}/instances/{instance}/frames/1", f'{PARTS}; type="application/octet-stream"; transfer-syntax=*', PARTS),
    ("Slim", "/studies/{study}/series/{series}/instances/{instance}/rendered?viewport=4,6", "image/png", "image/png"),
    ("Slim", "/studies/{study}/series/{series}/instances/{instance}/rendered?iccprofile=yes", "image/png", "image/png"),
    ("Slim", "/studies?Modality=CT&limit=100&offset=0&fuzzymatching=true", JSON, JSON),
    ("JavaScript", "/studies/{study}/series/{series}/instances/{instance}", f'{PARTS}; type="{DICOM}"; transfer-syntax=1.2.840.10008.1.2.1', PARTS),
    ("JavaScript", "/studies/{study}/series/{series}/instances/{instance}/frames/1", f'{PARTS}; type="application/octet-stream"', PARTS),
    ("JavaScript", "/studies/{study}/series/{series}/instances/{instance}/bulkdata/7FE00010", f'{PARTS}; type="application/octet-stream"', PARTS),
    ("JavaScript", "/studies/{study}/series/{series}/instances/{instance}/rendered", "image/*", JPEG),
    ("JavaScript", URI + "&contentType=application/dicom&transferSyntax=*", ANY, DICOM),
    ("Python", "/studies?PatientID=clients&fuzzymatching=true&limit=5&offset=0", f"{JSON}, application/json", JSON),
    ("Python", "/studies/{study}/metadata", f"{JSON}, application/json", JSON),
    ("Python", "/studies/{study}/series/{series}", f'{PARTS}; type="{DICOM}"', PARTS),
    ("Python", "/studies/{study}/series/{series}/instances/{instance}", f'{PARTS}; type="{DICOM}"; transfer-syntax=*', PARTS),
    ("Python", "/studies/{study}/series/{series}/instances/{instance}/rendered", JPEG, JPEG),
    ("Weasis", "/studies?0020000D={study}&includefield=" + WEASIS_STUDY, JSON, JSON),
    ("Weasis", "/studies?0020000D={study}&includefield=" + WEASIS_STUDY.replace(",", "&includefield="), JSON, JSON),
    ("Weasis", "/studies/{study}/series?includefield=0008103E,00080060,0020000E,00200011,00081190", JSON, JSON),
    ("Weasis", "/studies/{study}/series?0020000E={series}&includefield=00201209", JSON, JSON),
    ("Weasis", "/studies/{study}/series/{series}/instances?includefield=00080016,00080018,00200013&offset=0&limit=500", JSON, JSON),
    ("Weasis", "/studies/{study}/series/{series}", WEASIS, PARTS),
    ("Weasis", "/studies/{study}/series/{series}/instances/{instance}", WEASIS, PARTS),
    ("Weasis", "/studies/{study}/series/{series}/thumbnail?viewport=256%2C256", JPEG, JPEG),
    ("Weasis", URI + "&contentType=application%2Fdicom", ANY, DICOM),
    ("Weasis", URI + "&contentType=application%2Fdicom&transferSyntax=1.2.840.10008.1.2.1&imageQuality=80", ANY, DICOM),
    ("Weasis", URI + "&contentType=image/jpeg&imageQuality=70&rows=256&columns=256", ANY, JPEG),
    ("dcm4chee", "/studies?includefield=all&limit=21&offset=0&orderby=-StudyDate,-StudyTime", JSON, JSON),
    ("dcm4chee", "/studies/{study}/series?includefield=all&orderby=SeriesNumber", JSON, JSON),
    ("dcm4chee", "/studies/{study}/series/{series}/instances?includefield=all&orderby=InstanceNumber", JSON, JSON),
    ("dcm4chee", "/studies/{study}/series/{series}/instances/{instance}/metadata", BROWSER, "application/json"),
    ("dcm4chee", URI, ANY, JPEG),
    ("dcm4chee", URI + "&contentType=image/jpeg&frameNumber=1", ANY, JPEG),
    ("dcm4chee", URI + "&contentType=application/dicom", ANY, DICOM),
    ("dcm4chee", URI + "&contentType=application/dicom&transferSyntax=*", ANY, DICOM),
]

# Accept of what decodes several compressions, in orders in which clients list them, all without weights.
DECODERS = [
    ("image/jls", "1.2.840.10008.1.2.4.80"),
    ("image/jls", "1.2.840.10008.1.2.4.81"),
    ("image/jp2", "1.2.840.10008.1.2.4.90"),
    ("image/jp2", "1.2.840.10008.1.2.4.91"),
    ("image/jpx", "1.2.840.10008.1.2.4.92"),
    ("application/octet-stream", "*"),
    ("image/jpeg", "1.2.840.10008.1.2.4.50"),
]


@pytest.fixture(scope="module")
def ct(origin):
    data_set = image(PatientID="clients", SeriesNumber=1, InstanceNumber=1)
    origin.store(encode(data_set))
    return data_set


def url(origin, template: str, data_set) -> str:
    path = template.format(study=data_set.StudyInstanceUID, series=data_set.SeriesInstanceUID, instance=data_set.SOPInstanceUID)
    if path.startswith("/"):
        return origin.url + path
    return f"{os.environ.get('CUSPID_WADO_URL') or origin.url.rsplit('/', 1)[0] + '/wado'}?{path}"


@pytest.mark.parametrize("client, path, accept, expected", REQUESTS, ids=[f"{number} {row[0]}" for number, row in enumerate(REQUESTS)])
def test_the_requests_of_clients_are_answered_in_the_form_that_they_read(origin, ct, client, path, accept, expected):
    answer = origin.session.get(url(origin, path, ct), headers={"Accept": accept}, timeout=60)
    assert answer.status_code == 200, answer.text
    assert answer.headers["Content-Type"].split(";")[0] == expected
    assert answer.content
    if "/frames/" in path:
        assert multipart.read(answer)[0].body == frame_bytes(1)


@pytest.mark.parametrize("accept", ["application/zip;transfer-syntax=*", "application/zip"])
@pytest.mark.parametrize("directory", ["", "&dicomdir=true"])
def test_downloads_of_dcm4chees_ui_are_zip_files(origin, ct, accept, directory):
    answer = origin.session.get(f"{origin.url}{study_path(ct)}?accept={accept}{directory}", headers={"Accept": ANY}, timeout=60)
    if answer.status_code == 406:
        pytest.skip("application/zip is not among the media types")
    assert answer.content.startswith(b"PK")


@pytest.mark.parametrize("order", [DECODERS, [*reversed(DECODERS)], DECODERS[3:] + DECODERS[:3]])
def test_slim_gets_a_tile_as_it_is_stored(origin, order):
    tile = b"\xff\xd8 a tile that only the viewer decodes \xff\xd9"
    data_set = image(rows=2, columns=4)
    data_set.BitsAllocated, data_set.BitsStored, data_set.HighBit = 8, 8, 7
    data_set.PixelData = encapsulate([tile])
    data_set["PixelData"].VR = "OB"
    data_set["PixelData"].is_undefined_length = True
    origin.store(encode(data_set, JPEGBaseline8Bit))
    accept = ", ".join(f'{PARTS}; type="{essence}"; transfer-syntax={syntax}' for essence, syntax in order)
    (part,) = multipart.read(origin.get(f"{instance_path(data_set)}/frames/1", accept))
    assert part.body.rstrip(b"\0") == tile


@pytest.mark.parametrize(
    "content_type, delimiter",
    [
        ('multipart/related; type="application/dicom"; boundary="104c0481-22a7-461f-e263-1d7d1301cfac"', "104c0481-22a7-461f-e263-1d7d1301cfac"),
        ('multipart/related;type="application/dicom";boundary=8375469325', "8375469325"),
        ("multipart/related; type=\"application/dicom\"; boundary='X'", "'X'"),
        ("multipart/related; type=\"application/dicom\"; boundary='X'", "X"),
        ("multipart/related; type='application/dicom'; boundary=it's", "it's"),
        ('multipart/related; type="application/dicom"; boundary="a\'()+_,-./:=?b c"', "a'()+_,-./:=?b c"),
        ("multipart/related; boundary=0f3cf5c0-70e0-41ef-baef-c6f9f65ec3e1; type=\"application/dicom\"", "0f3cf5c0-70e0-41ef-baef-c6f9f65ec3e1"),
    ],
)
def test_boundaries_of_every_form_are_found(origin, content_type, delimiter):
    """RFC 2046 §5.1.1, RFC 9110 §5.6.2: an apostrophe is a character of boundaries and of tokens. Some mean quotation marks by it."""
    data_set = image()
    body = f"\r\n--{delimiter}\r\nContent-Type: application/dicom\r\n\r\n".encode() + encode(data_set) + f"\r\n--{delimiter}--".encode()
    assert origin.post(body, content_type).status_code == 200
    assert origin.json(f"{instance_path(data_set)}/metadata")


def test_urls_that_are_made_of_a_host_without_port_lead_back(origin):
    """dicomweb-client for Python leaves the port out of Host."""
    data_set = image(rows=64, columns=64)
    origin.store(encode(data_set))
    host = re.match(r"https?://(\[[^]]*\]|[^:/]*)", origin.url)[1]
    metadata = requests.get(f"{origin.url}{series_path(data_set)}/metadata", headers={"Accept": JSON, "Host": host}, timeout=60).json()
    uri = requests.compat.urljoin(f"{origin.url}{series_path(data_set)}/metadata", metadata[0]["7FE00010"]["BulkDataURI"])
    answer = requests.get(uri, headers={"Accept": "application/octet-stream"}, timeout=60)
    assert answer.content == data_set.PixelData


@pytest.mark.parametrize(
    "host, port, scheme, expected",
    [
        ("pacs.example", "8443", "https", "https://pacs.example:8443/"),
        ("pacs.example", "443", "https", "https://pacs.example/"),
        ("pacs.example:8443", "8443", "https", "https://pacs.example:8443/"),
        ("pacs.example", "80", "http", "http://pacs.example/"),
        ("pacs.example", "8080", "http", "http://pacs.example:8080/"),
    ],
)
def test_urls_have_the_port_that_a_proxy_reports_apart(origin, host, port, scheme, expected):
    data_set = image(rows=64, columns=64)
    origin.store(encode(data_set))
    headers = {"X-Forwarded-Host": host, "X-Forwarded-Port": port, "X-Forwarded-Proto": scheme}
    answer = origin.request("GET", f"{instance_path(data_set)}/metadata", headers=headers)
    assert answer.json()[0]["7FE00010"]["BulkDataURI"].startswith(expected)
