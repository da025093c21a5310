#!/usr/bin/env python3
"""Makes the tables of src/dicom/deidentify from copies of the standard that programs can read.

    tools/deidentification_tables.py --profile confidentiality_profile_attributes.json --iods highdicom/_standard --safe chapter_E.rst

- `--profile`: PS3.15 Table E.1-1 as JSON, `standard/confidentiality_profile_attributes.json` of github.com/innolitics/dicom-standard.
- `--iods`: the folder `highdicom/_standard` of the package highdicom (PyPI), with the modules and attributes of PS3.3 as JSON.
- `--safe`: PS3.15 Annex E as text, `source/part15/chapter_E.rst` of github.com/chsasank/dicom_standard, for Table E.3.10-1.

It writes `attributes.csv` (Table E.1-1: an action for the profile and for each option), `types.csv` (the IODs in which an attribute is of
type 1 or 2, for the attributes whose action depends on the type), `iods.csv` (the IOD of each SOP class) and `safe_private.csv` (private
attributes that cannot hold text). Needs pydicom. The tables in the repository were made of edition 2024e, highdicom 0.28.2, and 2021.
"""

import argparse
import json
import re
from collections import defaultdict
from pathlib import Path

from pydicom.datadict import DicomDictionary

FOLDER = Path(__file__).parent.parent / "src/dicom/deidentify"
# The columns of Table E.1-1, as the JSON names them.
COLUMNS = {
    "basic": "basicProfile",
    "safe-private": "rtnSafePrivOpt",
    "uids": "rtnUIDsOpt",
    "device": "rtnDevIdOpt",
    "institution": "rtnInstIdOpt",
    "patient": "rtnPatCharsOpt",
    "full-dates": "rtnLongFullDatesOpt",
    "modified-dates": "rtnLongModifDatesOpt",
    "descriptors": "cleanDescOpt",
}
# Attributes of these VRs have an action by their VR where the table does not name them.
BY_VR = ("DA", "TM", "DT", "PN")
# Values of these VRs are numbers or defined terms.
SAFE_VRS = ("CS", "DS", "IS", "FL", "FD", "SS", "US", "SL", "UL")
NUMBERS = {"1": 1, "1C": 1, "2": 2, "2C": 2}


def write(name: str, header: str, rows: list[str]) -> None:
    (FOLDER / name).write_text("\n".join([header, *rows]) + "\n")


def attributes(profile: list[dict]) -> None:
    def tag(row):
        return "odd" if "ODD" in row["tag"].upper() else row["id"].upper().replace("X", "x")

    rows = [",".join([tag(row), *(row.get(column, "") for column in COLUMNS.values()), " ".join(row["name"].replace(",", "").split())]) for row in profile]
    write("attributes.csv", ",".join(["tag", *COLUMNS, "name"]), sorted(rows))


def types(profile: list[dict], folder: Path) -> None:
    modules, elements, classes = (json.loads((folder / name).read_text()) for name in ("iod_module_map.json", "module_attribute_map.json", "sop_class_iod_map.json"))
    listed = {row["id"] for row in profile}
    tags = {keyword: (f"{tag:08x}", vr) for tag, (vr, _, _, _, keyword) in DicomDictionary.items() if keyword}
    wanted = {row["id"] for row in profile if "/" in row["basicProfile"]}
    wanted |= {tag for tag, vr in tags.values() if vr in BY_VR and tag not in listed}
    found = defaultdict(dict)
    for iod, parts in modules.items():
        for element in (element for part in parts for element in elements.get(part["key"], [])):
            tag = tags.get(element["keyword"], ("",))[0]
            if tag in wanted and element["type"] in NUMBERS:
                place = found[tag, "nested" if element["path"] else "top"]
                place[iod] = min(NUMBERS[element["type"]], place.get(iod, 3))
    rows = []
    for (tag, level), place in sorted(found.items()):
        for number in (1, 2):
            if names := sorted(iod for iod, least in place.items() if least == number):
                rows.append(f"{tag.upper()},{level},{number},{' '.join(names)}")
    write("types.csv", "tag,level,type,iods", rows)
    write("iods.csv", "sop_class,iod", [f"{uid},{iod}" for uid, iod in sorted(classes.items())])


def grid_table(text: str, title: str) -> list[list[str]]:
    """The rows of a table of reStructuredText."""
    rows, cells = [], None
    for line in map(str.strip, text[text.index(title) :].splitlines()[1:]):
        if re.match(r"\+[-=]", line):
            if cells:
                rows.append([" ".join(filter(None, cell)) for cell in cells])
            cells = None
        elif line.startswith("|"):
            parts = [part.strip() for part in line.strip("|").split("|")]
            cells = cells or [[] for _ in parts]
            for cell, part in zip(cells, parts):
                cell.append(part)
        elif line and rows:
            break
    return rows


def safe_private(text: str) -> None:
    rows = []
    for tag, creator, vr, *_ in grid_table(text, "table:: Safe Private Attributes"):
        if (place := re.match(r"\(([0-9A-F]{4}),xx([0-9A-Fa-f]{2})\)", tag)) and vr in SAFE_VRS:
            rows.append(f"{place[1]},{place[2].upper()},{vr},{creator}")
    write("safe_private.csv", "group,element,vr,creator", sorted(rows))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    for name in ("profile", "iods", "safe"):
        parser.add_argument(f"--{name}", type=Path, required=True)
    arguments = parser.parse_args()
    profile = json.loads(arguments.profile.read_text())
    attributes(profile)
    types(profile, arguments.iods)
    safe_private(arguments.safe.read_text())


if __name__ == "__main__":
    main()
