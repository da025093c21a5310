#!/usr/bin/env python3
"""Writes seeds for the fuzz targets into fuzz/corpus: pydicom's files, bodies made of them, and DIMSE messages."""

import zipfile
from io import BytesIO
from pathlib import Path

import pydicom
from pydicom.dataset import Dataset
from pydicom.filebase import DicomBytesIO
from pydicom.filewriter import write_dataset

CORPUS = Path(__file__).parent.parent / "fuzz" / "corpus"
MAX_BYTES = 40_000
# A Native DICOM Model (PS3.19 §A.1) with an attribute of each kind.
MODEL = b"""<?xml version="1.0" encoding="UTF-8"?><NativeDicomModel xml:space="preserve">
<DicomAttribute tag="00080008" vr="CS"><Value number="1">A&amp;B</Value><Value number="3">&#13;</Value></DicomAttribute>
<DicomAttribute tag="00090001" vr="LO" privateCreator="ACME"><Value number="1"><![CDATA[x]]></Value></DicomAttribute>
<DicomAttribute tag="00100010" vr="PN"><PersonName number="1"><Alphabetic><FamilyName>A</FamilyName></Alphabetic></PersonName></DicomAttribute>
<DicomAttribute tag="00400275" vr="SQ"><Item number="1"><DicomAttribute tag="00280030" vr="DS"><Value number="1">1.5</Value></DicomAttribute></Item></DicomAttribute>
<DicomAttribute tag="00420011" vr="OB"><InlineBinary>AAA=</InlineBinary></DicomAttribute>
<DicomAttribute tag="7FE00010" vr="OW"><BulkData uri="x"/></DicomAttribute></NativeDicomModel>"""


# A DICOM JSON array (PS3.18 F.2) with an attribute of each kind, to be cut into pieces of 16 bytes.
METADATA = b"""\x10[{"00080008":{"vr":"CS","Value":["A\\\\B",null]},"00090010":{"vr":"LO","Value":["ACME"]},
"00091001":{"vr":"UN","InlineBinary":"AAA="},"00100010":{"vr":"PN","Value":[{"Alphabetic":"A^B"}]},
"00280030":{"vr":"DS","Value":[0.333333333333333333,"1.5"]},"00400275":{"vr":"SQ","Value":[{"00280010":{"vr":"US","Value":[1]}},{}]},
"7FE00010":{"vr":"OB or OW","BulkDataURI":"x"}},{"00209165":{"vr":"AT","Value":["00100010"]}}]"""


def command(field: int, sop_class: str) -> bytes:
    """A command set (PS3.7 §E.1), in implicit VR little endian."""
    data_set = Dataset()
    data_set.AffectedSOPClassUID, data_set.CommandField, data_set.MessageID = sop_class, field, 1
    data_set.Priority, data_set.CommandDataSetType, data_set.AffectedSOPInstanceUID = 0, 1, "1.2.3"
    buffer = DicomBytesIO()
    buffer.is_little_endian, buffer.is_implicit_VR = True, True
    write_dataset(buffer, data_set)
    body = buffer.getvalue()
    return b"\0\0\0\0\4\0\0\0" + len(body).to_bytes(4, "little") + body


def item(kind: int, content: bytes) -> bytes:
    return bytes([kind, 0]) + len(content).to_bytes(2, "big") + content


def associate() -> bytes:
    """An A-ASSOCIATE-RQ (PS3.8 §9.3.2)."""
    syntaxes = item(0x30, b"1.2.840.10008.1.1") + item(0x40, b"1.2.840.10008.1.2")
    context = item(0x20, b"\1\0\0\0" + syntaxes)
    user = item(0x50, item(0x51, b"\0\0\x40\0") + item(0x52, b"1.2.3"))
    body = b"\0\1\0\0" + b"CUSPID".ljust(16) + b"SEED".ljust(16) + bytes(32)
    body += item(0x10, b"1.2.840.10008.3.1.1.1") + context + user
    return b"\1\0" + len(body).to_bytes(4, "big") + body


def p_data(value: bytes) -> bytes:
    pdv = (len(value) + 2).to_bytes(4, "big") + b"\1\3" + value
    return b"\4\0" + len(pdv).to_bytes(4, "big") + pdv


def main() -> None:
    seeds = {"part10": [], "multipart": [], "command": [], "xml": [MODEL], "metadata": [METADATA], "zip": []}
    for path in sorted((Path(pydicom.__file__).parent / "data" / "test_files").glob("*.dcm")):
        file = path.read_bytes()
        if len(file) <= MAX_BYTES:
            seeds["part10"].append(b"\x40" + file)
            packed = BytesIO()
            with zipfile.ZipFile(packed, "w", zipfile.ZIP_DEFLATED) as archive:
                archive.writestr("folder/1", file)
                archive.writestr("2", file[:100], zipfile.ZIP_STORED)
            seeds["zip"].append(packed.getvalue())
            body = BytesIO()
            for _ in range(2):
                body.write(b"\r\n--B\r\nContent-Type: application/dicom\r\n\r\n" + file[:500])
            seeds["multipart"].append(b"\x10" + body.getvalue() + b"\r\n--B--")
    commands = [command(0x0001, "1.2.840.10008.5.1.4.1.1.2"), command(0x0030, "1.2.840.10008.1.1")]
    seeds["command"] = [*commands, associate(), *map(p_data, commands), associate() + p_data(commands[0])]
    for target, contents in seeds.items():
        directory = CORPUS / target
        directory.mkdir(parents=True, exist_ok=True)
        for number, content in enumerate(contents):
            (directory / f"seed-{number:03}").write_bytes(content)


if __name__ == "__main__":
    main()
