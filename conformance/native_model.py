"""Reads the Native DICOM Model (PS3.19 §A.1) with Python's own XML parser, into dictionaries that can be compared."""

import base64
import subprocess
from pathlib import Path
from xml.etree import ElementTree

import numpy

GROUPS = ["Alphabetic", "Ideographic", "Phonetic"]
PARTS = ["FamilyName", "GivenName", "MiddleName", "NamePrefix", "NameSuffix"]


# Attributes that a server writes on its own: character set, available transfer syntax.
ADDED = {"00080005", "00083002"}


def local(element) -> str:
    """An element's name without its namespace."""
    return element.tag.rpartition("}")[2]


def read(document: bytes) -> dict:
    """A document as {(tag, private creator): attribute}."""
    root = ElementTree.fromstring(document)
    assert local(root) == "NativeDicomModel"
    assert root.get("{http://www.w3.org/XML/1998/namespace}space") == "preserve"
    return data_set(root)


def data_set(parent) -> dict:
    found = {}
    for element in parent:
        assert local(element) == "DicomAttribute", element.tag
        key = element.get("tag"), element.get("privateCreator")
        assert key not in found, key
        found[key] = attribute(element)
    return found


def attribute(element) -> dict:
    """An attribute as {"vr", "keyword", and at most one of "values", "inline", "uri", "uuid"}."""
    found = {"vr": element.get("vr"), "keyword": element.get("keyword")}
    children = list(element)
    kinds = {local(child) for child in children}
    assert len(kinds) <= 1, kinds
    if kinds <= {"Value", "PersonName", "Item"}:
        assert [child.get("number") for child in children] == [str(n + 1) for n in range(len(children))]
        found["values"] = [value(child) for child in children]
    else:
        (child,) = children
        if local(child) == "InlineBinary":
            found["inline"] = base64.b64decode(child.text or "", validate=True)
        else:
            assert local(child) == "BulkData", child.tag
            found.update(child.attrib)
    return found


def value(element):
    if local(element) == "Item":
        return data_set(element)
    if local(element) == "Value":
        assert not list(element)
        return element.text or ""
    groups = {local(group): {local(part): part.text or "" for part in group} for group in element}
    assert set(groups) <= set(GROUPS) and all(set(parts) <= set(PARTS) for parts in groups.values())
    return groups


def of_dcmtk(path: Path) -> dict:
    """The model that dcmtk's dcm2xml writes of a file."""
    command = ["dcm2xml", "--quiet", "--native-format", "--encode-base64", "--convert-to-utf8", path]
    done = subprocess.run(command, capture_output=True, check=True)
    return read(done.stdout)


def differences(ours: dict, theirs: dict, path: str = ""):
    """Yields the attributes in which two models differ, apart from differences that the standard allows."""
    ours, theirs = ({block_free(key): value for key, value in side.items()} for side in (ours, theirs))
    for key in sorted(set(ours) ^ set(theirs), key=str):
        if key[0] not in ADDED and not key[0].startswith("7FE0"):
            yield path + str(key), "missing in ours" if key in theirs else "missing in theirs"
    for key in sorted(set(ours) & set(theirs), key=str):
        mine, other = ours[key], theirs[key]
        place = path + str(key)
        if key[0] in ADDED:
            continue
        if mine["vr"] != other["vr"]:
            # Attributes sent as UN or in implicit VR: each side has a dictionary of its own.
            if "UN" not in (mine["vr"], other["vr"]) and {mine["vr"], other["vr"]} > {"OB", "OW"}:
                yield place, mine["vr"], other["vr"]
            continue
        if mine["keyword"] and other["keyword"] and mine["keyword"] != other["keyword"].removeprefix("RETIRED_"):
            yield place, mine["keyword"], other["keyword"]
        if mine["vr"] == "SQ":
            mine, other = mine.get("values", []), other.get("values", [])
            if len(mine) != len(other):
                yield place, len(mine), len(other)
            for number, (left, right) in enumerate(zip(mine, other)):
                yield from differences(left, right, f"{place}[{number}].")
        elif "values" in mine and "values" in other:
            left, right = ([level(mine["vr"], one) for one in side["values"]] for side in (mine, other))
            if [one for one in left if one] != [one for one in right if one]:
                yield place, left, right
        elif "inline" in mine and "inline" in other:
            # dcmtk writes words in big endian; PS3.19 and PS3.18 §F.2.7 do not.
            other = swapped(other["inline"]) if mine["vr"] == "OW" else other["inline"]
            if mine["inline"] != other:
                yield place, mine["inline"][:20], other[:20]


def block_free(key: tuple) -> tuple:
    """The key without the block, for a private attribute without a creator: its block may be written or not."""
    tag, creator = key
    is_orphan = int(tag[3], 16) % 2 and not creator
    return (f"{tag[:4]}00{tag[6:]}", None) if is_orphan else key


def swapped(words: bytes) -> bytes:
    found = bytearray(words)
    found[0::2], found[1::2] = words[1::2], words[0::2]
    return bytes(found)


def level(vr: str, value):
    """A value in a normal form, so that two spellings of one value are equal."""
    if isinstance(value, dict):
        groups = {name: {part: text.strip() for part, text in parts.items() if text.strip()} for name, parts in value.items()}
        return {name: parts for name, parts in groups.items() if parts}
    if vr in ("DS", "IS", "FL", "FD"):
        try:
            # dcmtk writes 15 significant digits of a double, which may need 17.
            return float(numpy.float32(value)) if vr == "FL" else float(f"{float(value):.15g}")
        except ValueError:
            pass
    return value.strip(" \0")
