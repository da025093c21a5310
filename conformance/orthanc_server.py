"""Orthanc 1.12.7 on a directory: another origin server to run the same tests on. `tools/orthanc_install.sh` installs it."""

import json

from cuspid_server import ROOT, Server

AE_TITLE = "ORTHANC"
PLUGIN = "/usr/share/orthanc/plugins/libOrthancDicomWeb.so"


class Orthanc(Server):
    """An Orthanc process with default settings, apart from loopback, free ports and DICOMweb."""

    ready_path = "/system"

    def launch(self) -> None:
        settings = {
            "StorageDirectory": "storage",
            "IndexDirectory": "storage",
            "Plugins": [PLUGIN],
            "HttpPort": self.http_port,
            "DicomPort": self.dimse_port,
            "DicomAet": AE_TITLE,
            "RemoteAccessAllowed": False,
            "AuthenticationEnabled": False,
            "DicomAlwaysAllowStore": True,
            "DicomWeb": {"Enable": True, "Root": "/dicom-web/", "EnableWado": True, "WadoRoot": "/wado"},
        }
        path = self.directory / "orthanc.json"
        path.write_text(json.dumps(settings))
        self.run([ROOT / "tools" / "orthanc.sh", path])
