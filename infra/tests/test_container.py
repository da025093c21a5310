"""The container file and the unit, as well as can be without a container runtime and without systemd."""

import json
import os
import re
import shutil
import subprocess
import threading
from http.server import BaseHTTPRequestHandler, HTTPServer

import pytest
import yaml
from emulated import INFRA, deploy

ROOT = INFRA.parent
CONTAINERFILE = (INFRA / "Containerfile").read_text()


def copied():
    """What is copied from the repository into the image or its stages."""
    for line in re.findall(r"^COPY (?!--from)(.+)$", CONTAINERFILE, re.MULTILINE):
        yield from line.split()[:-1]


def test_what_is_copied_is_there():
    assert {"Cargo.toml", "Cargo.lock", "src", "infra/cuspid-ready"} <= set(copied())
    for path in copied():
        assert (ROOT / path).exists(), path


def test_what_is_copied_is_a_whole_package(tmp_path):
    for path in copied():
        source = ROOT / path
        (tmp_path / path).parent.mkdir(parents=True, exist_ok=True)
        if source.is_dir():
            shutil.copytree(source, tmp_path / path)
        else:
            shutil.copy(source, tmp_path / path)
    command = ["cargo", "metadata", "--locked", "--offline", "--no-deps", "--format-version", "1"]
    result = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=True)
    (package,) = json.loads(result.stdout)["packages"]
    for target in package["targets"]:
        assert target["src_path"].startswith(str(tmp_path))
        assert os.path.exists(target["src_path"]), target["name"]
    outside = re.compile(r'include_(?:str|bytes)!\("((?:\.\./)+[^"]+)"\)')
    for file in (tmp_path / "src").rglob("*.rs"):
        for path in outside.findall(file.read_text()):
            assert (file.parent / path).exists(), f"{file} includes {path}"


def test_the_toolchain_is_the_one_of_the_package():
    channel = re.search(r'channel = "(.+)"', (ROOT / "rust-toolchain.toml").read_text())[1]
    assert f"rust:{channel}-slim-bookworm AS server" in CONTAINERFILE


def test_the_image_runs_as_nobody_in_particular_and_holds_no_secret():
    last = CONTAINERFILE.rsplit("\nFROM ", 1)[1]
    assert re.findall(r"^USER (.+)$", last, re.MULTILINE) == ["10001:10001"]
    assert not re.search(r"^(ARG|ADD) ", CONTAINERFILE, re.MULTILINE)
    assert not re.search(r"SECRET|PASSWORD|TOKEN|AWS_", CONTAINERFILE.split("\nFROM ", 1)[1])
    assert set(re.findall(r"^COPY --from=(\w+)", last, re.MULTILINE)) == {"server", "viewer"}


@pytest.mark.parametrize("stack", ["blue", "worker", "dimse"])
def test_tasks_use_the_image_as_it_is_meant(stack):
    template = yaml.load(deploy.read_template(stack), deploy.Loader)
    (container,) = template["Resources"]["TaskDefinition"]["Properties"]["ContainerDefinitions"]
    assert f"USER {container['User']}\n" in CONTAINERFILE
    assert f"VOLUME {container['MountPoints'][0]['ContainerPath']}\n" in CONTAINERFILE
    for mapping in container.get("PortMappings", []):
        assert str(mapping["ContainerPort"]) in re.search("^EXPOSE (.+)$", CONTAINERFILE, re.MULTILINE)[1].split()
    assert ("HealthCheck" in container) == (stack != "worker")
    if "HealthCheck" in container:
        assert container["HealthCheck"]["Command"] == ["CMD", "/usr/local/bin/cuspid-ready"]


class Answers(BaseHTTPRequestHandler):
    def do_GET(self):
        self.send_response(self.server.status if self.path == "/readyz" else 404)
        self.end_headers()

    def log_message(self, *_):
        pass


def ready(port):
    return subprocess.run([INFRA / "cuspid-ready", str(port)], capture_output=True, check=False).returncode == 0


@pytest.mark.parametrize(("status", "expected"), [(200, True), (503, False), (404, False)])
def test_health_is_what_readyz_answers(status, expected):
    with HTTPServer(("127.0.0.1", 0), Answers) as server:
        server.status = status
        threading.Thread(target=server.serve_forever, daemon=True).start()
        assert ready(server.server_port) is expected
        server.shutdown()


def test_a_server_that_is_not_there_is_not_ready():
    with HTTPServer(("127.0.0.1", 0), Answers) as server:
        port = server.server_port
    assert not ready(port)


def test_the_unit_is_well_formed(tmp_path):
    # Where the program is not installed, the check would end there.
    unit = (INFRA / "cuspid.service").read_text().replace("/usr/local/bin/cuspid ", "/bin/true ")
    path = tmp_path / "cuspid.service"
    path.write_text(unit)
    result = subprocess.run(["systemd-analyze", "verify", path], capture_output=True, text=True, check=False)
    assert (result.returncode, result.stdout, result.stderr) == (0, "", "")


def test_the_unit_exposes_little():
    command = ["systemd-analyze", "security", "--offline=yes", "--threshold=15", INFRA / "cuspid.service"]
    result = subprocess.run(command, capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stdout


def test_the_unit_stops_after_the_server_has():
    unit = (INFRA / "cuspid.service").read_text()
    settings = (ROOT / "src" / "config.default.toml").read_text()
    stop = int(re.search(r"^TimeoutStopSec=(\d+)$", unit, re.MULTILINE)[1])
    assert stop > int(re.search(r"^shutdown_timeout_seconds = (\d+)$", settings, re.MULTILINE)[1])
