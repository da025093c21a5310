"""The Capabilities Description of a service (PS3.18 §8.9, Annex G and Annex H)."""

import xml.etree.ElementTree as ElementTree

import pytest

WADL = "application/vnd.sun.wadl+xml"
NAMESPACE = {"w": "http://wadl.dev.java.net/2009/02"}


def described(origin) -> ElementTree.Element:
    answer = origin.request("OPTIONS", "/", headers={"Accept": WADL})
    assert answer.status_code == 200
    return ElementTree.fromstring(answer.content)


def paths(resource: ElementTree.Element, before: str = "") -> dict:
    """Every resource below one, by its whole path."""
    found = {}
    for child in resource.findall("w:resource", NAMESPACE):
        path = f"{before}/{child.get('path')}"
        found |= {path: child, **paths(child, path)}
    return found


@pytest.mark.parametrize("method", ["OPTIONS", "GET"])
@pytest.mark.parametrize("accept, expected", [(WADL, WADL), ("application/json", "application/json"), (f"{WADL};q=0.5, application/json", "application/json")])
def test_the_service_describes_itself_in_both_media_types(origin, method, accept, expected):
    answer = origin.request(method, "/", headers={"Accept": accept})
    assert answer.status_code == 200
    assert answer.headers["Content-Type"].split(";")[0] == expected


def test_any_media_type_is_one_of_them(origin):
    answer = origin.request("OPTIONS", "/", headers={"Accept": "*/*"})
    assert answer.headers["Content-Type"].split(";")[0] in (WADL, "application/json")


def test_another_media_type_is_not_acceptable(origin):
    assert origin.request("OPTIONS", "/", headers={"Accept": "image/png"}).status_code == 406


def test_the_description_is_known_by_its_tag(origin):
    tag = origin.get("/", WADL).headers["ETag"]
    assert origin.get("/", WADL, If_None_Match=tag).status_code == 304


def test_there_is_one_application_with_one_tree_of_resources(origin):
    application = described(origin)
    assert application.tag == f"{{{NAMESPACE['w']}}}application"
    (resources,) = application.findall("w:resources", NAMESPACE)
    assert resources.get("base").rstrip("/") == origin.url


@pytest.mark.parametrize(
    "path, methods",
    [
        ("/studies", {"GET", "POST"}),
        ("/studies/{}", {"GET", "POST"}),
        ("/studies/{}/metadata", {"GET"}),
        ("/studies/{}/rendered", {"GET"}),
        ("/studies/{}/thumbnail", {"GET"}),
        ("/studies/{}/series", {"GET"}),
        ("/studies/{}/series/{}", {"GET"}),
        ("/studies/{}/series/{}/metadata", {"GET"}),
        ("/studies/{}/series/{}/instances", {"GET"}),
        ("/studies/{}/series/{}/instances/{}", {"GET"}),
        ("/studies/{}/series/{}/instances/{}/metadata", {"GET"}),
        ("/studies/{}/series/{}/instances/{}/rendered", {"GET"}),
        ("/studies/{}/series/{}/instances/{}/frames/{}", {"GET"}),
        ("/studies/{}/series/{}/instances/{}/frames/{}/rendered", {"GET"}),
        ("/studies/{}/instances", {"GET"}),
        ("/series", {"GET"}),
        ("/instances", {"GET"}),
    ],
)
def test_the_resources_of_table_h_1_are_described_with_their_methods(origin, path, methods):
    tree = paths(described(origin).find("w:resources", NAMESPACE))
    anonymous = {"/".join("{}" if word.startswith("{") else word for word in key.split("/")): resource for key, resource in tree.items()}
    names = {method.get("name") for method in anonymous[path].findall("w:method", NAMESPACE)}
    assert methods <= names


def test_searches_describe_what_they_match(origin):
    studies = paths(described(origin).find("w:resources", NAMESPACE))["/studies"]
    search = next(method for method in studies.findall("w:method", NAMESPACE) if method.get("name") == "GET")
    names = {param.get("name") for param in search.findall("w:request/w:param", NAMESPACE)}
    assert {"limit", "offset", "includefield", "fuzzymatching", "StudyDate", "00080020", "PatientID", "StudyInstanceUID"} <= names


def test_every_method_has_its_answers(origin):
    for path, resource in paths(described(origin).find("w:resources", NAMESPACE)).items():
        for method in resource.findall("w:method", NAMESPACE):
            statuses = " ".join(answer.get("status", "") for answer in method.findall("w:response", NAMESPACE)).split()
            assert any(status.startswith("2") for status in statuses), path
            assert "400" in statuses, path


def test_the_json_says_what_the_xml_says(origin):
    def compare(element, members):
        assert {key[1:]: value for key, value in members.items() if key.startswith("@") and not key.startswith("@xmlns")} == element.attrib
        names = {child.tag.split("}")[1] for child in element}
        assert names == {key for key in members if not key.startswith("@") and key != "value"}
        for name in names:
            children = element.findall(f"w:{name}", NAMESPACE)
            if name in ("resources", "request"):
                compare(children[0], members[name])
            else:
                assert len(children) == len(members[name])
                for child, described in zip(children, members[name]):
                    compare(child, described)

    application = origin.request("OPTIONS", "/", headers={"Accept": "application/json"}).json()["application"]
    compare(described(origin), application)


@pytest.mark.parametrize("path", ["/studies", "/series", "/instances", "/studies/1.2.3", "/studies/1.2.3/metadata"])
def test_other_resources_tell_their_methods(origin, path):
    answer = origin.request("OPTIONS", path)
    assert answer.status_code in (200, 204)
    assert {"GET", "OPTIONS"} <= {method.strip() for method in answer.headers["Allow"].split(",")}


@pytest.mark.parametrize("method, path", [("PUT", "/studies"), ("DELETE", "/series"), ("POST", "/studies/1.2.3/metadata"), ("PATCH", "/studies/1.2.3")])
def test_a_method_that_a_resource_has_not_is_405_with_those_that_it_has(origin, method, path):
    answer = origin.request(method, path)
    assert answer.status_code == 405
    assert "GET" in answer.headers["Allow"]
