"""DIMSE over TLS (PS3.15 §B.12): certificates on both sides, fingerprints, a renewed certificate, moves to a TLS peer."""

import socket
import ssl
import subprocess
import time
from io import BytesIO

import pytest
from pydicom import dcmread
from pydicom.dataset import Dataset
from pydicom.uid import CTImageStorage
from pynetdicom import AE, evt
from pynetdicom.sop_class import StudyRootQueryRetrieveInformationModelMove, Verification

import cuspid_server
from build import encode, image
from conftest import launched
from cuspid_server import free_port

DESTINATION_PORT = free_port()
PINNED, OTHER = "PINNED", "OTHER"


class Authority:
    """A certificate authority with a folder for its files."""

    def __init__(self, folder):
        self.folder = folder
        self.certificate, self.key = self.self_signed("authority", "-addext", "keyUsage=keyCertSign")

    def self_signed(self, name: str, *more: str):
        certificate, key = self.folder / f"{name}.pem", self.folder / f"{name}.key"
        command = ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-days", "2"]
        subprocess.run([*command, "-subj", f"/CN={name}", *more, "-keyout", key, "-out", certificate], check=True, capture_output=True)
        return certificate, key

    def issue(self, name: str):
        """Makes a certificate for this machine; returns its file and that of its key."""
        more = ["-CA", self.certificate, "-CAkey", self.key, "-addext", "subjectAltName=DNS:localhost,IP:127.0.0.1"]
        return self.self_signed(name, *more, "-addext", "basicConstraints=critical,CA:FALSE")


class Setup:
    """A server that takes DIMSE over TLS from peers with a certificate of one authority."""

    def __init__(self, folder):
        self.authority = Authority(folder)
        self.own, self.pinned, self.other = (self.authority.issue(name) for name in ("server", "pinned", "other"))
        self.port = free_port()
        command = [cuspid_server.binary(), "tls", "fingerprint", self.pinned[0]]
        fingerprint = subprocess.run(command, check=True, capture_output=True, text=True).stdout.split()[0]
        openssl = ["openssl", "x509", "-noout", "-fingerprint", "-sha256", "-in", self.pinned[0]]
        printed = subprocess.run(openssl, check=True, capture_output=True, text=True).stdout
        assert printed.strip().split("=")[1].replace(":", "").lower() == fingerprint
        settings = {
            "tls_listen": f"127.0.0.1:{self.port}",
            "tls_certificate": self.own[0],
            "tls_key": self.own[1],
            "tls_peer_issuers": self.authority.certificate,
            "tls_fingerprints": f"{PINNED}={fingerprint}",
            "peers": f"*=store+find+move,DESTINATION@tls://127.0.0.1:{DESTINATION_PORT}=",
        }
        settings = [f"dimse.{name}={value}" for name, value in settings.items()]
        self.server, self.origin = launched(folder, "log.filter=warn", "http.tls_reload_seconds=1", *settings)

    def context(self, files=None) -> ssl.SSLContext:
        context = ssl.create_default_context(cafile=self.authority.certificate)
        if files:
            context.load_cert_chain(*files)
        return context

    def associate(self, title: str, files, *abstract_syntaxes: str):
        client = AE(title)
        client.acse_timeout = client.dimse_timeout = client.network_timeout = 30
        for abstract_syntax in abstract_syntaxes:
            client.add_requested_context(abstract_syntax)
        return client.associate("127.0.0.1", self.port, ae_title="CUSPID", tls_args=(self.context(files), "localhost"))


@pytest.fixture(scope="module")
def tls(tmp_path_factory):
    setup = Setup(tmp_path_factory.mktemp("tls"))
    try:
        yield setup
        setup.origin.session.close()
        assert setup.server.stop() == 0
        assert "panicked" not in setup.server.log()
    finally:
        setup.server.kill()


def test_an_instance_is_stored_over_tls_by_pynetdicom(tls):
    data_set = image()
    association = tls.associate(OTHER, tls.other, data_set.SOPClassUID)
    assert association.is_established
    assert association.send_c_store(dcmread(BytesIO(encode(data_set)))).Status == 0
    association.release()
    found = tls.origin.session.get(f"{tls.origin.url}/studies", params={"StudyInstanceUID": data_set.StudyInstanceUID})
    assert len(found.json()) == 1


@pytest.mark.parametrize("profile", ["+py", "+px", "+pz"], ids=["non-downgrading", "BCP 195", "extended"])
def test_dcmtk_verifies_and_stores_over_tls(tls, tmp_path, profile):
    file = tmp_path / "instance.dcm"
    file.write_bytes(encode(image()))
    options = ["+tls", tls.other[1], tls.other[0], "+cf", tls.authority.certificate, profile, "-aec", "CUSPID", "-aet", OTHER]
    for command in (["echoscu", *options], ["storescu", "-R", *options]):
        files = [file] if command[0] == "storescu" else []
        done = subprocess.run([*command, "127.0.0.1", str(tls.port), *files], capture_output=True, text=True, timeout=60)
        assert done.returncode == 0, done.stderr


def test_a_peer_without_a_certificate_of_the_authority_is_refused(tls, tmp_path):
    strange = Authority(tmp_path).issue("strange")
    for files in (None, strange):
        assert not tls.associate(OTHER, files, Verification).is_established
    association = tls.associate(OTHER, tls.other, Verification)
    assert association.is_established
    association.release()


def test_a_title_with_a_fingerprint_calls_by_its_certificate_only(tls):
    for files, is_taken in ((tls.pinned, True), (tls.other, False)):
        association = tls.associate(PINNED, files, Verification)
        assert association.is_established == is_taken
        if is_taken:
            association.release()
        else:
            assert association.is_rejected
    # Nor does it call without TLS.
    client = AE(PINNED)
    client.add_requested_context(Verification)
    plain = client.associate(*tls.origin.dimse, ae_title="CUSPID")
    assert plain.is_rejected and plain.acceptor.primitive.diagnostic == 3


@pytest.mark.parametrize("version, is_spoken", [("tls1_3", True), ("tls1_2", True), ("tls1_1", False)])
def test_tls_is_of_version_1_2_or_1_3(tls, version, is_spoken):
    files = ["-CAfile", tls.authority.certificate, "-cert", tls.other[0], "-key", tls.other[1]]
    command = ["openssl", "s_client", "-connect", f"127.0.0.1:{tls.port}", *files, f"-{version}", "-cipher", "DEFAULT:@SECLEVEL=0"]
    done = subprocess.run(command, input="", capture_output=True, text=True, timeout=30)
    assert ("Certificate chain" in done.stdout) == is_spoken


def test_a_peer_that_does_not_shake_hands_holds_up_nobody(tls):
    silent = [socket.create_connection(("127.0.0.1", tls.port)) for _ in range(10)]
    silent[0].sendall(b"GET / HTTP/1.1\r\n\r\n")
    association = tls.associate(OTHER, tls.other, Verification)
    assert association.is_established and association.send_c_echo().Status == 0
    association.release()
    for each in silent:
        each.close()


def test_instances_are_moved_to_a_peer_over_tls(tls):
    data_set = image()
    assert data_set.SOPClassUID == CTImageStorage
    tls.origin.store(encode(data_set))
    came = []

    def keep(event):
        came.append(event.request.AffectedSOPInstanceUID)
        return 0

    def move() -> tuple:
        association = tls.associate(OTHER, tls.other, StudyRootQueryRetrieveInformationModelMove)
        keys = Dataset()
        keys.QueryRetrieveLevel, keys.StudyInstanceUID = "STUDY", data_set.StudyInstanceUID
        *_, (status, _) = association.send_c_move(keys, "DESTINATION", StudyRootQueryRetrieveInformationModelMove)
        association.release()
        return status.Status

    def destination(files, authority):
        entity = AE("DESTINATION")
        entity.add_supported_context(CTImageStorage)
        context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH, cafile=authority)
        context.verify_mode = ssl.CERT_REQUIRED
        context.load_cert_chain(*files)
        handlers = [(evt.EVT_C_STORE, keep)]
        return entity.start_server(("127.0.0.1", DESTINATION_PORT), block=False, evt_handlers=handlers, ssl_context=context)

    listener = destination(tls.other, tls.authority.certificate)
    try:
        assert move() == 0 and came == [data_set.SOPInstanceUID]
    finally:
        listener.shutdown()
    # A destination with a certificate of another authority gets nothing.
    other = tls.authority.folder / "other authority"
    other.mkdir()
    listener = destination(Authority(other).issue("stranger"), tls.authority.certificate)
    try:
        assert move() == 0xA702 and len(came) == 1
    finally:
        listener.shutdown()


def test_a_renewed_certificate_is_used_without_a_restart(tls):
    def serial() -> str:
        with socket.create_connection(("127.0.0.1", tls.port)) as plain:
            with tls.context(tls.other).wrap_socket(plain, server_hostname="localhost") as stream:
                return stream.getpeercert()["serialNumber"]

    before = serial()
    renewed = tls.authority.issue("renewed")
    for new, old in zip(reversed(renewed), reversed(tls.own)):
        old.write_bytes(new.read_bytes())
    deadline = time.monotonic() + 20
    while serial() == before and time.monotonic() < deadline:
        time.sleep(0.1)
    assert serial() != before


def test_self_signed_certificates_are_made_once(tmp_path):
    command = [cuspid_server.binary(), "tls", "self-signed", "--out", tmp_path, "--name", "pacs.example", "--name", "192.0.2.1"]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0 and "tls_certificate" in done.stdout
    assert (tmp_path / "key.pem").stat().st_mode & 0o777 == 0o600
    described = subprocess.run(
        ["openssl", "x509", "-noout", "-text", "-in", tmp_path / "certificate.pem"], check=True, capture_output=True, text=True
    ).stdout
    assert "DNS:pacs.example, IP Address:192.0.2.1" in described
    key = (tmp_path / "key.pem").read_bytes()
    again = subprocess.run(command, capture_output=True, text=True)
    assert again.returncode != 0 and "key.pem" in again.stderr
    assert (tmp_path / "key.pem").read_bytes() == key
