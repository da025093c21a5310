"""HTTP as browsers use it: methods (PS3.18 §8.1.1.1), errors (§8.5), cross-origin requests (Fetch standard)."""

import pytest

from build import encode, image, instance_path, series_path

PAGE = "https://viewer.example"


@pytest.mark.parametrize("method, path", [("GET", "/studies"), ("POST", "/studies")])
def test_a_preflight_allows_what_viewers_send(origin, method, path):
    headers = {
        "Origin": PAGE,
        "Access-Control-Request-Method": method,
        "Access-Control-Request-Headers": "authorization,accept,content-type,range,if-none-match",
    }
    answer = origin.request("OPTIONS", path, headers=headers)
    assert answer.status_code in (200, 204)
    assert answer.headers["Access-Control-Allow-Origin"] in ("*", PAGE)
    assert method in answer.headers["Access-Control-Allow-Methods"]
    allowed = answer.headers["Access-Control-Allow-Headers"].lower()
    for name in ["authorization", "accept", "content-type", "range", "if-none-match"]:
        assert name in allowed, name


def test_answers_may_be_read_by_other_origins(origin):
    data_set = image()
    origin.store(encode(data_set))
    for path in [f"{series_path(data_set)}/metadata", f"{instance_path(data_set)}/frames/1"]:
        answer = origin.get(path, Origin=PAGE)
        assert answer.headers["Access-Control-Allow-Origin"] in ("*", PAGE)
        exposed = answer.headers["Access-Control-Expose-Headers"].lower()
        for name in ["content-length", "content-range", "etag", "location", "warning"]:
            assert name in exposed, name
        assert answer.headers["Cross-Origin-Resource-Policy"] == "cross-origin"


def test_errors_may_be_read_by_other_origins_and_explain_themselves(origin):
    answer = origin.get(f"{instance_path(image())}/frames/1", Origin=PAGE)
    assert answer.status_code == 404
    assert answer.headers["Access-Control-Allow-Origin"] in ("*", PAGE)
    assert answer.headers["Content-Type"].startswith("application/problem+json")
    assert answer.json()["detail"]


@pytest.mark.parametrize("method, path", [("DELETE", "/studies"), ("PUT", "/studies/1.2"), ("POST", "/series")])
def test_other_methods_are_405_and_name_those_allowed(origin, method, path):
    answer = origin.request(method, path)
    assert answer.status_code == 405
    assert "GET" in answer.headers["Allow"]


def test_options_name_the_methods_of_a_resource(origin):
    answer = origin.request("OPTIONS", "/studies")
    assert answer.status_code in (200, 204)
    assert {"GET", "POST"} <= {method.strip() for method in answer.headers["Allow"].split(",")}


def test_links_follow_the_proxy_in_front(origin):
    data_set = image()
    origin.store(encode(data_set))
    headers = {"X-Forwarded-Proto": "https", "X-Forwarded-Host": "pacs.example"}
    answer = origin.request("GET", f"{instance_path(data_set)}/metadata", headers=headers)
    assert answer.json()[0]["7FE00010"]["BulkDataURI"].startswith("https://pacs.example/")
    answer = origin.request("GET", f"{instance_path(data_set)}/metadata", headers={"Forwarded": "proto=https;host=other.example"})
    assert answer.json()[0]["7FE00010"]["BulkDataURI"].startswith("https://other.example/")
