"""Search results in Native DICOM Model XML (PS3.18 §10.6.1, §8.7.3.2), pages beside each other, optional forms."""

import csv
import io
import re

import pytest
from pydicom.uid import generate_uid

import multipart
import native_model
from build import encode, image
from conftest import JSON

XML_PARTS = 'multipart/related; type="application/dicom+xml"'


@pytest.fixture(scope="module")
def mark(origin):
    """The accession number of five studies, the second of two series, and of nothing else."""
    mark = generate_uid()[-12:]
    studies = [image(AccessionNumber=mark, StudyDate=f"2020010{day}", PatientName=f"Doe^{day}") for day in range(1, 6)]
    extra = image(AccessionNumber=mark, StudyInstanceUID=studies[1].StudyInstanceUID, StudyDate="20200102", PatientName="Doe^2", Modality="MR")
    origin.store(*map(encode, [*studies, extra]))
    return mark


def of_json(data_set: dict) -> dict:
    """A data set in DICOM JSON, in the form that `native_model` reads from XML."""
    found = {}
    for tag, attribute in data_set.items():
        values = attribute.get("Value", [])
        if attribute["vr"] == "SQ":
            values = [of_json(item) for item in values]
        elif attribute["vr"] == "PN":
            values = [{group: "^".join(name.split("^")) for group, name in value.items()} for value in values]
        else:
            values = ["" if value is None else str(value) for value in values]
        found[tag] = (attribute["vr"], values)
    return found


def of_xml(model: dict) -> dict:
    found = {}
    for (tag, creator), attribute in model.items():
        assert not creator
        values = attribute["values"]
        if attribute["vr"] == "SQ":
            values = [of_xml(item) for item in values]
        elif attribute["vr"] == "PN":
            names = [{group: [parts.get(part, "") for part in native_model.PARTS] for group, parts in name.items()} for name in values]
            values = [{group: "^".join(parts).rstrip("^") for group, parts in name.items()} for name in names]
        found[tag] = (attribute["vr"], values)
    return found


@pytest.mark.parametrize("resource", ["studies", "series", "instances"])
def test_xml_says_what_json_says_a_part_for_each_result(origin, mark, resource):
    path = f"/{resource}?AccessionNumber={mark}&includefield=all"
    answer = origin.get(path, XML_PARTS)
    assert answer.status_code == 200
    parts = multipart.read(answer)
    assert {part.headers["content-type"] for part in parts} == {"application/dicom+xml"}
    documents = [of_xml(native_model.read(part.body)) for part in parts]
    assert documents == [of_json(result) for result in origin.json(path)]
    assert len(documents) == {"studies": 5, "series": 6, "instances": 6}[resource]


def test_nothing_found_is_no_body_in_xml(origin):
    answer = origin.get(f"/studies?StudyInstanceUID={generate_uid()}", XML_PARTS)
    assert (answer.status_code, answer.content) == (204, b"")


def test_the_accept_query_parameter_is_no_search_key(origin, mark):
    answer = origin.get(f"/studies?AccessionNumber={mark}&accept=multipart/related;type=%22application/dicom%2Bxml%22")
    assert len(multipart.read(answer)) == 5


def test_other_media_types_are_406(origin, mark):
    assert origin.get(f"/studies?AccessionNumber={mark}", "image/png").status_code == 406


def test_pages_in_xml_are_announced_as_in_json(origin, mark):
    path = f"/studies?AccessionNumber={mark}&limit=2"
    for accept in [JSON, XML_PARTS]:
        assert origin.get(path, accept).headers["Warning"].startswith("299 ")


def test_a_warning_field_is_a_list_of_warnings(origin, mark):
    answer = origin.get(f"/studies?AccessionNumber={mark}&limit=2&InstanceNumber=1", JSON)
    values = re.findall(r'(\d{3}) (\S+) "((?:[^"\\]|\\.)*)"', answer.headers["Warning"])
    assert values and ", ".join(f'{code} {agent} "{text}"' for code, agent, text in values) == answer.headers["Warning"]


# The tests below are of extensions.


def pages(origin, url: str) -> list:
    found = []
    while url:
        answer = origin.session.get(url, headers={"Accept": JSON})
        found.append(answer)
        url = answer.links.get("next", {}).get("url")
    return found


def test_links_lead_through_all_pages(origin, mark):
    first = origin.get(f"/studies?AccessionNumber={mark}&PatientName=D%2a&limit=2", JSON)
    if "Link" not in first.headers:
        pytest.skip("no Link fields")
    answers = pages(origin, first.url)
    assert [len(answer.json()) for answer in answers] == [2, 2, 1]
    assert sum((answer.json() for answer in answers), []) == origin.json(f"/studies?AccessionNumber={mark}")
    assert "prev" not in answers[0].links
    back = origin.session.get(answers[2].links["prev"]["url"], headers={"Accept": JSON})
    assert back.json() == answers[1].json()


def next_of(answer) -> str:
    """The URL of the next page, if it has a cursor."""
    url = answer.links.get("next", {}).get("url", "")
    if "cursor=" not in url:
        pytest.skip("no cursors")
    return url


@pytest.mark.parametrize("resource", ["studies", "series", "instances"])
def test_links_lead_through_all_results_while_others_are_stored(origin, resource):
    mark = generate_uid()[-12:]
    store = lambda name, date: origin.store(encode(image(AccessionNumber=mark, PatientName=name, StudyDate=date)))
    for day in range(1, 5):
        store(f"Doe^{day}", f"2020010{day}")
    path = f"/{resource}?AccessionNumber={mark}&PatientName=D%2a"
    everything = origin.json(path)
    answer = origin.get(f"{path}&limit=1", JSON)
    next_of(answer)
    found = answer.json()
    while "next" in answer.links:
        store("Other^Name", f"2020010{len(found)}")
        answer = origin.session.get(next_of(answer), headers={"Accept": JSON})
        found += answer.json()
    assert len(found) == 4
    assert found == everything


def test_an_offset_counts_from_the_cursor(origin, mark):
    path = f"/studies?AccessionNumber={mark}&PatientName=D%2a"
    url = next_of(origin.get(f"{path}&limit=2", JSON))
    rest = origin.session.get(f"{url}&offset=1", headers={"Accept": JSON})
    assert rest.json() == origin.json(path)[3:5]


def test_a_cursor_of_another_search_is_400_and_named(origin, mark):
    url = next_of(origin.get(f"/studies?AccessionNumber={mark}&limit=2", JSON))
    for other in [url.replace(mark, f"{mark}0"), url.replace("/studies?", "/series?"), f"{url}&PatientName=D%2a", url.replace("cursor=", "cursor=A")]:
        answer = origin.session.get(other, headers={"Accept": JSON})
        assert answer.status_code == 400, other
        assert "cursor" in answer.text


def test_csv_is_a_table_of_the_same_results(origin, mark):
    path = f"/series?AccessionNumber={mark}"
    answer = origin.get(path, "text/csv")
    if answer.status_code == 406 or not answer.headers["Content-Type"].startswith("text/csv"):
        pytest.skip("no CSV")
    rows = list(csv.DictReader(io.StringIO(answer.content.decode(), newline="")))
    json = origin.json(path)
    assert [row["SeriesInstanceUID"] for row in rows] == [series["0020000E"]["Value"][0] for series in json]
    assert [row["PatientName"] for row in rows] == [series["00100010"]["Value"][0]["Alphabetic"] for series in json]
    assert {row["AccessionNumber"] for row in rows} == {mark}


@pytest.mark.parametrize("order, expected", [("StudyDate", "12345"), ("-StudyDate", "54321"), ("-PatientName,StudyDate", "54321"), ("00080020", "12345")])
def test_results_come_in_the_order_asked_for(origin, mark, order, expected):
    answer = origin.get(f"/studies?AccessionNumber={mark}&orderby={order}", JSON)
    reverse = ",".join(key[1:] if key.startswith("-") else f"-{key}" for key in order.split(","))
    if answer.status_code == 400 or answer.json() == origin.json(f"/studies?AccessionNumber={mark}&orderby={reverse}"):
        pytest.skip("no orderby")
    assert "".join(study["00080020"]["Value"][0][-1] for study in answer.json()) == expected
    first = origin.json(f"/studies?AccessionNumber={mark}&orderby={order}&limit=2")
    rest = origin.json(f"/studies?AccessionNumber={mark}&orderby={order}&offset=2")
    assert first + rest == answer.json()
