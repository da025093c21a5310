#!/usr/bin/env python3
"""Compares Cuspid's DICOM JSON metadata with pydicom's, over all files of pydicom and pydicom-data.

Needs `pip install pydicom pydicom-data`; run in the project's root. Prints each difference and, at the end, how
many files agree, differ and are refused. `level` removes differences of spelling that both sides may have.
"""
import array
import base64
import json
import math
import pathlib
import struct
import subprocess
import sys
import tempfile
import warnings

import pydicom
from pydicom.data import get_charset_files, get_testdata_files

IGNORED = {"00080005", "00083002"}


def level(vr, value):
    """A value of either side in a normal form, so that two spellings of one value are equal."""
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
            # pydicom has dictionaries of private attributes, but does not parse a private sequence sent as UN.
            if int(tag[:4], 16) % 2 == 1 and "UN" in (mine["vr"], other["vr"]):
                continue
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
    try:
        found = dataset.to_json_dict()
    except Exception:  # a value that pydicom cannot convert; it then leaves out whole sequences without need
        found = dataset.to_json_dict(suppress_invalid_tags=True)
    found = {tag: attribute for tag, attribute in found.items() if not tag.endswith("0000")}
    if not dataset.original_encoding[1]:
        # pydicom writes the words of InlineBinary in big endian; PS3.18 §F.2.7 requires little endian.
        for attribute in found.values():
            if attribute["vr"] == "OW" and "InlineBinary" in attribute:
                words = array.array("H", base64.b64decode(attribute["InlineBinary"]))
                words.byteswap()
                attribute["InlineBinary"] = base64.b64encode(words.tobytes()).decode()
    return found


def ours(names):
    """Cuspid's JSON of each file, or the reason why it is refused."""
    run = subprocess.run(["cargo", "run", "-q", "--example", "metadata"], input="\n".join(names),
                         capture_output=True, text=True, check=True)
    return [json.loads(line) for line in run.stdout.splitlines()]


def completed(name, folder):
    """A copy of a file with the UIDs that it lacks; all other values keep their bytes."""
    dataset = pydicom.dcmread(name, force=True)
    for keyword in ("SOPClassUID", "SOPInstanceUID", "StudyInstanceUID", "SeriesInstanceUID"):
        if not dataset.get(keyword):
            setattr(dataset, keyword, "1.2.3")
    copy = pathlib.Path(folder) / f"{len(list(pathlib.Path(folder).iterdir()))}-{pathlib.Path(name).name}"
    dataset.save_as(copy, enforce_file_format=False)
    return str(copy)


def compare(names):
    """Prints the differences; returns how many files agree, differ, and those refused, with the reasons."""
    same, differing, refused = 0, 0, {}
    for name, mine in zip(names, ours(names), strict=True):
        short = "/".join(pathlib.Path(name).parts[-2:])
        if "refused" in mine:
            refused[name] = mine["refused"]
            continue
        mine = {tag: attribute for tag, attribute in mine.items() if not tag.startswith("7FE000")}
        try:
            found = list(differences(mine, theirs(name)))
        except Exception as error:  # pydicom cannot read or convert the file
            found = [("all", "read", f"{type(error).__name__}: {error}")]
        same, differing = (same, differing + 1) if found else (same + 1, differing)
        for where, left, right in found[:12]:
            print(f"{short}: {where}: {str(left)[:140]} | {str(right)[:140]}")
    return same, differing, refused


def main():
    warnings.simplefilter("ignore")
    files = {p for p in get_testdata_files() + get_charset_files() if pathlib.Path(p).is_file()}
    skipped = (".py", ".txt", ".md", ".json", ".zip", ".gz", ".xml", ".pyc", ".icc", ".dump", "README")
    names = sorted(p for p in files if not p.endswith(skipped) and "DICOMDIR" not in p)
    same, differing, refused = compare(names)
    without_identity = [name for name, reason in refused.items() if "UID" in reason]
    with tempfile.TemporaryDirectory() as folder:
        more_same, more_differing, still_refused = compare([completed(name, folder) for name in without_identity])
    for name in set(refused) - set(without_identity):
        print(f"{'/'.join(pathlib.Path(name).parts[-2:])}: refused: {refused[name]}")
    for name, reason in still_refused.items():
        print(f"{name}: refused: {reason}")
    differing += more_differing
    print(f"{same + more_same} agree ({more_same} of them with UIDs added), {differing} differ, "
          f"{len(refused) - len(without_identity) + len(still_refused)} refused")
    return 1 if differing else 0


if __name__ == "__main__":
    sys.exit(main())
