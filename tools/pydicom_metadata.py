#!/usr/bin/env python3
"""Compares Cuspid's DICOM JSON metadata with pydicom's, over all files of pydicom and pydicom-data.

Needs `pip install pydicom pydicom-data`; run in the project's root. Prints each difference and, at the end, how
many files agree, differ and are refused. What the two spell differently on purpose is levelled in `level`.
"""
import json
import math
import pathlib
import struct
import subprocess
import sys
import warnings

import pydicom
from pydicom.data import get_testdata_files

IGNORED = {"00080005", "00083002"}


def level(vr, value):
    """Brings one value of either side to one spelling."""
    if isinstance(value, dict):
        return {k: v.strip() for k, v in value.items() if isinstance(v, str) and v.strip()} or None
    if vr in ("DS", "IS", "FL", "FD") and value not in (None, ""):
        number = float(value)
        if math.isnan(number):
            return "NaN"
        return struct.pack("f", number) if vr == "FL" else number
    if isinstance(value, str):
        return value.strip(" \0") or None
    return value


def differences(ours, theirs, path=""):
    """Yields the differences between two data sets in DICOM JSON."""
    for tag in sorted((set(ours) | set(theirs)) - IGNORED):
        here = path + tag
        mine, other = ours.get(tag), theirs.get(tag)
        if mine is None or other is None:
            yield here, mine, other
            continue
        if mine["vr"] != other["vr"]:
            yield here + " vr", mine["vr"], other["vr"]
            continue
        if "BulkDataURI" in mine:
            continue
        if "InlineBinary" in mine or "InlineBinary" in other:
            if mine.get("InlineBinary") != other.get("InlineBinary"):
                yield here, mine, other
            continue
        left, right = mine.get("Value", []), other.get("Value", [])
        if mine["vr"] == "SQ":
            if len(left) != len(right):
                yield here + " items", len(left), len(right)
            for index, (a, b) in enumerate(zip(left, right), 1):
                yield from differences(a or {}, b or {}, f"{here}/{index}/")
            continue
        try:
            left, right = ([level(mine["vr"], v) for v in side] for side in (left, right))
        except ValueError:
            pass
        if left != right and (any(v is not None for v in left) or any(v is not None for v in right)):
            yield here, mine, other


def theirs(path):
    """pydicom's JSON of a file, without file meta and group lengths."""
    dataset = pydicom.dcmread(path, force=True)
    for tag in (0x7FE00008, 0x7FE00009, 0x7FE00010):
        if tag in dataset:
            del dataset[tag]
    return dataset.to_json_dict(suppress_invalid_tags=True)


def main():
    warnings.simplefilter("ignore")
    files = sorted(p for p in get_testdata_files() if pathlib.Path(p).is_file() and b"DICOMDIR" not in p.encode())
    names = [p for p in files if not p.endswith((".py", ".txt", ".md", ".json", ".zip", ".gz", ".xml", ".pyc"))]
    run = subprocess.run(["cargo", "run", "-q", "--example", "metadata"], input="\n".join(names),
                         capture_output=True, text=True, check=True)
    same = differing = refused = unread = 0
    for name, line in zip(names, run.stdout.split("\n"), strict=False):
        ours, short = json.loads(line), "/".join(pathlib.Path(name).parts[-2:])
        if "refused" in ours:
            refused += 1
            print(f"{short}: refused: {ours['refused']}")
            continue
        ours = {tag: attribute for tag, attribute in ours.items() if not tag.startswith("7FE000")}
        try:
            found = list(differences(ours, theirs(name)))
        except Exception as error:
            unread += 1
            print(f"{short}: pydicom: {type(error).__name__}: {error}")
            continue
        same, differing = (same, differing + 1) if found else (same + 1, differing)
        for where, mine, other in found[:12]:
            print(f"{short}: {where}: {str(mine)[:140]} | {str(other)[:140]}")
    print(f"{same} agree, {differing} differ, {refused} refused, {unread} pydicom cannot read")
    return 1 if differing else 0


if __name__ == "__main__":
    sys.exit(main())
