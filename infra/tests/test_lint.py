"""What tools that know AWS and containers say of the files."""

import json
import subprocess
import sys
from pathlib import Path

import pytest
import yaml
from emulated import INFRA, deploy

TOOLS = Path(sys.executable).parent
TEMPLATES = sorted(deploy.TEMPLATES.glob("*.yaml"))
PARAMETER_FILES = sorted((INFRA / "parameters").glob("*.yaml"))
REGIONS = sorted({yaml.safe_load(path.read_text())["region"] for path in PARAMETER_FILES})

# The server's own audit log says who saw what (docs/audit.md, docs/decisions/0081).
NO_ACCESS_LOGS = "URLs of searches hold patients' names, and access logs hold whole URLs"

# Findings of checkov that are intended: (check, resource) and why.
ACCEPTED = {
    ("CKV_AWS_86", "delivery Distribution"): NO_ACCESS_LOGS,
    ("CKV_AWS_91", "service LoadBalancer"): NO_ACCESS_LOGS,
    ("CKV_AWS_91", "dimse LoadBalancer"): "a network load balancer logs only TLS, and modalities speak plain DIMSE",
    ("CKV_AWS_18", "storage Logs"): "the log of a bucket of logs would log itself",
    ("CKV_AWS_21", "storage Previews"): "made again if lost",
    ("CKV_AWS_21", "storage Thumbnails"): "made again if lost",
    ("CKV_AWS_21", "storage Temporary"): "made again if lost",
}


def test_cfn_lint_has_no_complaint_in_any_region():
    command = [TOOLS / "cfn-lint", "--regions", *REGIONS, "--template", *TEMPLATES]
    result = subprocess.run(command, capture_output=True, text=True, check=False)
    assert (result.returncode, result.stdout, result.stderr) == (0, "", "")


def test_checkov_finds_what_is_accepted_and_nothing_else():
    command = [TOOLS / "checkov", "--directory", deploy.TEMPLATES, "--framework", "cloudformation", "--skip-download"]
    result = subprocess.run([*command, "--output", "json"], capture_output=True, text=True, check=False)
    report = json.loads(result.stdout)
    assert report["summary"]["parsing_errors"] == 0
    assert report["summary"]["passed"] > 100
    found = {
        (check["check_id"], f"{Path(check['file_path']).stem} {check['resource'].split('.')[-1]}")
        for check in report["results"]["failed_checks"]
    }
    assert found == set(ACCEPTED)


def test_hadolint_has_no_complaint():
    result = subprocess.run([TOOLS / "hadolint", INFRA / "Containerfile"], capture_output=True, text=True, check=False)
    assert (result.returncode, result.stdout, result.stderr) == (0, "", "")


@pytest.mark.parametrize("path", TEMPLATES, ids=lambda path: path.stem)
def test_a_template_may_be_sent_as_it_is(path):
    assert len(path.read_bytes()) <= 51200


@pytest.mark.parametrize("path", PARAMETER_FILES, ids=lambda path: path.stem)
def test_a_parameter_file_says_nothing_that_no_template_asks(path):
    settings = yaml.safe_load(path.read_text())
    assert path.stem == f"{settings['environment']}-{settings['region']}"
    asked = set()
    for stack in settings["stacks"]:
        asked |= yaml.load(deploy.read_template(stack), deploy.Loader)["Parameters"].keys()
    assert set(settings["parameters"]) <= asked


def test_both_environments_are_there_in_two_regions():
    assert {path.stem for path in PARAMETER_FILES} == {f"{name}-{region}" for name in ("dev", "prod") for region in REGIONS}
    assert len(REGIONS) == 2
