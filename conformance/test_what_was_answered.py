"""The statuses that the other tests have seen: the server's OpenAPI 3.1 description has each of them. Runs last."""

import re

import pytest
import requests


def test_each_status_that_was_seen_is_described(origin):
    answer = requests.get(origin.url.removesuffix("/dicom-web") + "/openapi.json", timeout=60)
    if answer.status_code != 200:
        pytest.skip("the server has no OpenAPI description, which the standard does not ask for")
    paths = answer.json()["paths"]
    undescribed = []
    for method, path, status in sorted(origin.answered):
        matching = [item for template, item in paths.items() if re.fullmatch(pattern(template), f"/dicom-web{path}")]
        methods = [item[method.lower()] for item in matching if method.lower() in item]
        if methods and not any(str(status) in operation["responses"] for operation in methods):
            undescribed.append((method, path, status))
    assert not undescribed


def pattern(template: str) -> str:
    words = [".+" if word == "{path}" else "[^/]+" if word.startswith("{") else re.escape(word) for word in template.split("/")]
    return "/".join(words)
