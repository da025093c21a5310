"""The server and a worker, with the settings of their containers, over what the stacks made."""

import os
import re
import subprocess
import time
import urllib.request
from pathlib import Path

import pydicom
import pytest
from emulated import INFRA
from pydicom.data import get_testdata_file

BINARY = Path(os.environ.get("CUSPID_BINARY") or "target/debug/cuspid")
INSTANCE = Path(get_testdata_file("CT_small.dcm"))
WITHIN_SECONDS = 60

# On loopback there need be no provider of tokens; and a series is quiet as soon as it is there.
HERE = {
    "CUSPID_AUTH__ISSUER": "",
    "CUSPID_AUTH__CLIENT_ID": "",
    "CUSPID_HTTP__LISTEN": "127.0.0.1:0",
    "CUSPID_PREVIEW__QUIET_SECONDS": "0",
}


@pytest.fixture
def run(development, tmp_path):
    """Runs `cuspid COMMAND` as the container of a stack would, until the test ends; gives its log."""
    binary = INFRA.parent / BINARY
    assert binary.exists(), f"{binary} is missing: cargo build"
    development.deploy_all()
    started = []

    def start(command, stack):
        settings = development.settings_of(stack) | HERE | {"CUSPID_STORAGE__DATA": str(tmp_path / stack)}
        with open(tmp_path / f"{stack}.log", "w") as log:
            started.append(subprocess.Popen([binary, command], env=settings, cwd=tmp_path, stderr=log))
        return tmp_path / f"{stack}.log"

    yield start
    for process in started:
        process.terminate()
    assert [process.wait(WITHIN_SECONDS) for process in started] == [0] * len(started)


def soon(what):
    """What `what` gives, once that is something."""
    end = time.monotonic() + WITHIN_SECONDS
    while not (found := what()):
        assert time.monotonic() < end, "not in time"
        time.sleep(0.1)
    return found


def test_an_instance_is_stored_encrypted_and_given_back_and_its_series_gets_a_preview(development, run):
    log = run("serve", "blue")
    (url,) = soon(lambda: re.findall(r"ready: HTTP on (\S+)/", log.read_text()))
    body, headers = INSTANCE.read_bytes(), {"Content-Type": "application/dicom"}
    urllib.request.urlopen(urllib.request.Request(f"{url}/dicom-web/studies", body, headers)).close()

    study = pydicom.dcmread(INSTANCE).StudyInstanceUID
    accept = {"Accept": 'multipart/related; type="application/dicom"; transfer-syntax=*'}
    with urllib.request.urlopen(urllib.request.Request(f"{url}/dicom-web/studies/{study}", headers=accept)) as answer:
        assert body in answer.read()

    s3, key = development.client("s3"), development.outputs()["KeyArn"]

    def objects(kind):
        bucket = development.outputs()[f"{kind}Bucket"]
        return [(bucket, found["Key"]) for found in s3.list_objects_v2(Bucket=bucket).get("Contents", [])]

    ((bucket, original),) = objects("Originals")
    found = s3.get_object(Bucket=bucket, Key=original)
    assert found["Body"].read() == body
    assert (found["ServerSideEncryption"], found["SSEKMSKeyId"]) == ("aws:kms", key)

    assert objects("Previews") == []
    run("worker", "worker")
    ((bucket, preview),) = soon(lambda: objects("Previews"))
    assert s3.head_object(Bucket=bucket, Key=preview)["SSEKMSKeyId"] == key
