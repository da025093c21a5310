"""Character sets (PS3.3 §C.12.1.1.2, PS3.5 §6.1 and its examples in Annexes H to K): stored in any, searched and returned in UTF-8."""

import codecs
import json

import pytest
from pydicom.dataset import Dataset

import multipart
from build import encode, instance, instance_path
from conftest import INSTANCES

# Defined term, codec of Python, text.
SINGLE = [
    ("ISO_IR 6", "ascii", "Plain^Ascii"),
    ("ISO_IR 100", "iso8859-1", "Äneas^Rüdiger"),
    ("ISO_IR 101", "iso8859-2", "Wałęsa^Świętosław"),
    ("ISO_IR 109", "iso8859-3", "Ĉapelo^Ġorġ"),
    ("ISO_IR 110", "iso8859-4", "Bērziņš^Jānis"),
    ("ISO_IR 144", "iso8859-5", "Люкceмбypг^Иван"),
    ("ISO_IR 127", "iso8859-6", "قباني^لنزار"),
    ("ISO_IR 126", "iso8859-7", "Διονυσιος^Νίκος"),
    ("ISO_IR 138", "iso8859-8", "שרון^דבורה"),
    ("ISO_IR 148", "iso8859-9", "Çavuşoğlu^İlker"),
    ("ISO_IR 203", "iso8859-15", "Œuvre^Žižka"),
    ("ISO_IR 166", "tis-620", "สมชาย^ใจดี"),
    ("ISO_IR 13", "shift_jis", "ﾔﾏﾀﾞ^ﾀﾛｳ"),
    ("ISO_IR 192", "utf-8", "Ωμέγα^𝄞 Ж 山"),
    ("GB18030", "gb18030", "王^小东"),
    ("GBK", "gbk", "王^小东"),
    # The second byte of these characters is a backslash or a circumflex, which separates nothing here.
    ("GB18030", "gb18030", "乗^乛"),
    ("GBK", "gbk", "乗^乛"),
    # What Windows writes under the names of the standard's sets: its code pages have more characters.
    ("ISO_IR 13", "cp932", "ﾔﾏ^髙橋"),
    ("ISO 2022 IR 149", "cp949", "홍^똠방각하갂"),
    ("ISO 2022 IR 58", "gb18030", "朱^镕基东東㐂"),
]

YAMADA = b"\x1b$B;3ED\x1b(B^\x1b$BB@O:\x1b(B=\x1b$B$d$^$@\x1b(B^\x1b$B$?$m$&\x1b(B"
YAMADA_IR_14 = YAMADA.replace(b"\x1b(B", b"\x1b(J")
YAMADA_GROUPS = {"Ideographic": "山田^太郎", "Phonetic": "やまだ^たろう"}

# Specific Character Set, bytes of a name, its groups.
EXTENDED = [
    (["", "ISO 2022 IR 87"], b"Yamada^Tarou=" + YAMADA, {"Alphabetic": "Yamada^Tarou", **YAMADA_GROUPS}),
    (["ISO 2022 IR 6", "ISO 2022 IR 87"], b"Yamada^Tarou=" + YAMADA, {"Alphabetic": "Yamada^Tarou", **YAMADA_GROUPS}),
    (
        ["ISO 2022 IR 13", "ISO 2022 IR 87"],
        b"\xd4\xcf\xc0\xde^\xc0\xdb\xb3=" + YAMADA_IR_14,
        {"Alphabetic": "ﾔﾏﾀﾞ^ﾀﾛｳ", **YAMADA_GROUPS},
    ),
    (
        ["", "ISO 2022 IR 149"],
        b"Hong^Gildong=\x1b$)C\xfb\xf3^\x1b$)C\xd1\xce\xd4\xd7=\x1b$)C\xc8\xab^\x1b$)C\xb1\xe6\xb5\xbf",
        {"Alphabetic": "Hong^Gildong", "Ideographic": "洪^吉洞", "Phonetic": "홍^길동"},
    ),
    (
        ["", "ISO 2022 IR 58"],
        b"Zhang^XiaoDong=\x1b$)A\xd5\xc5^\x1b$)A\xd0\xa1\xb6\xab=",
        {"Alphabetic": "Zhang^XiaoDong", "Ideographic": "张^小东"},
    ),
    (
        ["", "ISO 2022 IR 100", "ISO 2022 IR 144"],
        b"\x1b-AM\xfcller=\x1b-L\xb8\xd2\xd0\xdd",
        {"Alphabetic": "Müller", "Ideographic": "Иван"},
    ),
    (["ISO 2022 IR 100", "ISO 2022 IR 126"], b"M\xfcller=\x1b-F\xe1\xe2", {"Alphabetic": "Müller", "Ideographic": "αβ"}),
    (["", "ISO 2022 IR 159"], b"A=\x1b$(D0!\x1b(B", {"Alphabetic": "A", "Ideographic": "丂"}),
    # As above, with code extensions: characters that only the code pages of Windows have.
    (["", "ISO 2022 IR 149"], b"Hong=\x1b$)C\xc8\xab^\x1b$)C\x8cc\x81A", {"Alphabetic": "Hong", "Ideographic": "홍^똠갂"}),
    (["", "ISO 2022 IR 87"], b"A=\x1b$B-!-j|b\x1b(B", {"Alphabetic": "A", "Ideographic": "①㈱髙"}),
    (["ISO 2022 IR 13", "ISO 2022 IR 87"], b"\xd4\xcf=\xfb\xfc\x95\x5c", {"Alphabetic": "ﾔﾏ", "Ideographic": "髙表"}),
    (["", "ISO 2022 IR 87"], b"A=\x8eR\x93c", {"Alphabetic": "A", "Ideographic": "山田"}),
    (["", "ISO 2022 IR 58"], b"Zhu=\x1b$)A\xd6\xec^\x1b$)A\xe9F\xbb\xf9", {"Alphabetic": "Zhu", "Ideographic": "朱^镕基"}),
    # A byte of 渚 is that of the equals sign, which separates nothing here.
    (["", "ISO 2022 IR 87"], b"A=\x1b$B=m\x1b(B=", {"Alphabetic": "A", "Ideographic": "渚"}),
]


def with_bytes(data_set: Dataset, **values: bytes) -> bytes:
    """The data set as a file in which given bytes replace texts of the same length."""
    fillers = {}
    for letter, (keyword, value) in zip("XYZ", values.items()):
        fillers[letter.encode() * len(value)] = value
        setattr(data_set, keyword, letter * len(value))
    file = encode(data_set)
    for filler, value in fillers.items():
        assert file.count(filler) == 1
        file = file.replace(filler, value)
    return file


def metadata(origin, data_set) -> dict:
    (found,) = origin.json(f"{instance_path(data_set)}/metadata")
    return found


def search(origin, data_set, **parameters) -> list:
    parameters["StudyInstanceUID"] = data_set.StudyInstanceUID
    return origin.request("GET", "/studies", params=parameters, headers={"Accept": "application/dicom+json"}).json()


@pytest.mark.parametrize("term, codec, text", SINGLE, ids=[f"{term} {text.encode().hex()[:8]}" for term, _, text in SINGLE])
def test_a_single_character_set_is_read(origin, term, codec, text):
    data_set = instance(SpecificCharacterSet=term)
    comment = text.replace("^", " ")
    file = with_bytes(data_set, PatientName=text.encode(codec), PatientComments=comment.encode(codec))
    origin.store(file)
    found = metadata(origin, data_set)
    assert found["00100010"]["Value"] == [{"Alphabetic": text}]
    assert found["00104000"]["Value"] == [comment]
    for name in (text, f"{text[0]}*"):
        (study,) = search(origin, data_set, PatientName=name)
        assert study["00100010"]["Value"] == [{"Alphabetic": text}]
    assert search(origin, data_set, PatientName=f"x{text}") == []
    assert file in origin.get(instance_path(data_set), INSTANCES).content


@pytest.mark.parametrize("terms, name, groups", EXTENDED, ids=[" ".join(terms) + f" {number}" for number, (terms, _, _) in enumerate(EXTENDED)])
def test_code_extensions_are_read(origin, terms, name, groups):
    data_set = instance(SpecificCharacterSet=terms)
    # Some of the names are not as the standard has them: a warning is right.
    sent = multipart.write([with_bytes(data_set, PatientName=name)])
    assert origin.post(sent, multipart.content_type()).status_code in (200, 202)
    assert metadata(origin, data_set)["00100010"]["Value"] == [groups]
    for group in groups.values():
        (study,) = search(origin, data_set, PatientName=group)
        assert study["00100010"]["Value"] == [groups]


def test_a_new_line_a_tab_and_a_new_value_start_in_the_first_character_set(origin):
    """PS3.5 §6.1.2.5.3: a character set that was switched to ends there at the latest."""
    data_set = instance(SpecificCharacterSet=["ISO 2022 IR 100", "ISO 2022 IR 144"])
    text = b"\x1b-L\xb8\xd2\xd0\xdd\r\n\xfc"
    names = b"\x1b-L\xb8\xd2\xd0\xdd\\\xfc"
    origin.store(with_bytes(data_set, PatientComments=text, OtherPatientNames=names))
    found = metadata(origin, data_set)
    assert found["00104000"]["Value"] == ["Иван\r\nü"]
    assert found["00101001"]["Value"] == [{"Alphabetic": "Иван"}, {"Alphabetic": "ü"}]


@pytest.mark.parametrize("codec, term", [("gb18030", "GB18030"), ("gbk", "GBK")])
def test_a_backslash_within_a_character_separates_no_values(origin, codec, term):
    text = "乗乗"
    assert b"\\" in text.encode(codec)
    data_set = instance(SpecificCharacterSet=term)
    origin.store(with_bytes(data_set, OtherPatientNames=text.encode(codec) + b"\\B"))
    assert metadata(origin, data_set)["00101001"]["Value"] == [{"Alphabetic": text}, {"Alphabetic": "B"}]


def test_items_have_the_character_set_around_them_or_their_own(origin):
    inherits, own = Dataset(), Dataset()
    own.SpecificCharacterSet = "ISO_IR 144"
    inherits.PatientComments = own.PatientComments = "placeholder"
    data_set = instance(SpecificCharacterSet="ISO_IR 100")
    data_set.ReferencedPatientSequence = [inherits, own]
    data_set.StudyComments = "placeholder"
    file = encode(data_set)
    latin, cyrillic = "äöü".ljust(11).encode("latin-1"), "Иван".ljust(11).encode("iso8859-5")
    for value in (latin, cyrillic, latin):
        file = file.replace(b"placeholder", value, 1)
    origin.store(file)
    found = metadata(origin, data_set)
    items = found["00081120"]["Value"]
    assert [item["00104000"]["Value"][0].strip() for item in items] == ["äöü", "Иван"]
    # Elements after the sequence are in the character set of the data set again.
    assert found["00324000"]["Value"][0].strip() == "äöü"
    for one in [found, *items]:
        assert one.get("00080005", {"Value": ["ISO_IR 192"]})["Value"] == ["ISO_IR 192"]


BROKEN = [
    ("unknown term", "ISO_IR 999", b"M\xfcller"),
    ("misspelled term", "ISO-IR 100", b"M\xfcller"),
    ("no term", None, b"M\xfcller"),
    ("not UTF-8", "ISO_IR 192", b"M\xfc\xffller"),
    ("half a character", "GB18030", b"A\x81"),
    ("open escape", "\\ISO 2022 IR 87", b"A=\x1b$B;3E"),
    ("unknown escape", "\\ISO 2022 IR 87", b"A=\x1b%Zx"),
    ("escape alone", "\\ISO 2022 IR 87", b"A\x1b"),
    ("not announced", "ISO_IR 100", b"A=\x1b$B;3ED\x1b(B"),
    ("control characters", "ISO_IR 100", b"A\x01\x02\x7fB"),
]


@pytest.mark.parametrize("term, name", [row[1:] for row in BROKEN], ids=[row[0] for row in BROKEN])
def test_text_that_is_not_in_its_character_set_does_not_cost_the_instance(origin, term, name):
    data_set = instance()
    if term is not None:
        data_set.SpecificCharacterSet = term.split("\\")
    file = with_bytes(data_set, PatientName=name)
    assert origin.post(file, "application/dicom").status_code in (200, 202)
    answer = origin.get(f"{instance_path(data_set)}/metadata", "application/dicom+json")
    (found,) = json.loads(codecs.decode(answer.content, "utf-8", "strict"))
    assert found["00100010"]["vr"] == "PN"
    assert len(search(origin, data_set)) == 1
    assert file in origin.get(instance_path(data_set), INSTANCES).content


@pytest.mark.parametrize("name", ["É", "E\u0301"], ids=["composed", "decomposed"])
def test_a_name_is_found_however_its_accents_are_spelled(origin, name):
    data_set = instance(SpecificCharacterSet="ISO_IR 192", PatientName="Éva")
    origin.store(encode(data_set))
    assert len(search(origin, data_set, PatientName=f"{name}va")) == 1
