"""All bulk data and all pixel data of a study, a series or an instance (PS3.18 §10.4.1.1.5, §10.4.1.1.6, §10.4.3.3.5)."""

import numpy as np
import pytest
from pydicom.uid import ExplicitVRBigEndian, RLELossless

import multipart
from build import encode, image, instance, instance_path, series_path, study_path

OCTETS = 'multipart/related; type="application/octet-stream"'
DOCUMENT = bytes(range(256)) * 64
LEVELS = {"study": study_path, "series": series_path, "instance": instance_path}
every_level = pytest.mark.parametrize("path", LEVELS.values(), ids=LEVELS)


def study(*data_sets):
    """The data sets in one series of one study."""
    first, *rest = data_sets
    for data_set in rest:
        data_set.StudyInstanceUID, data_set.SeriesInstanceUID = first.StudyInstanceUID, first.SeriesInstanceUID
    return data_sets


def parts_of(origin, path, accept=OCTETS):
    answer = origin.get(path, accept)
    assert answer.status_code == 200, answer.text[:300]
    return multipart.read(answer)


def uris(attributes: dict) -> list:
    """Every BulkDataURI of metadata, those in items too."""
    found = []
    for attribute in attributes.values():
        found += [attribute["BulkDataURI"]] if "BulkDataURI" in attribute else []
        for item in attribute.get("Value", []) if attribute["vr"] == "SQ" else []:
            found += uris(item)
    return found


@pytest.fixture(scope="module")
def mixed(origin):
    """An image that has a document too, and another image, of two frames."""
    both = study(image(EncapsulatedDocument=DOCUMENT), image(frames=2))
    origin.store(*[encode(data_set) for data_set in both])
    return both


@every_level
def test_bulkdata_is_every_value_that_metadata_refer_to(origin, mixed, path):
    target = path(mixed[0])
    expected = [uri for found in origin.json(f"{target}/metadata") for uri in uris(found)]
    parts = parts_of(origin, f"{target}/bulkdata")
    assert sorted(part.headers["content-location"] for part in parts) == sorted(expected)
    for part in parts:
        single = origin.session.get(part.headers["content-location"], headers={"Accept": OCTETS})
        assert part.body == multipart.read(single)[0].body


@every_level
def test_pixeldata_is_only_the_pixels_at_the_top_level(origin, mixed, path):
    parts = parts_of(origin, f"{path(mixed[0])}/pixeldata")
    expected = [mixed[0]] if path is instance_path else mixed
    assert sorted(part.body for part in parts) == sorted(data_set.PixelData for data_set in expected)
    assert all(part.headers["content-location"].startswith(origin.url) for part in parts)


@every_level
def test_instances_as_bytes_are_their_bulkdata(origin, mixed, path):
    whole, bulk = (parts_of(origin, f"{path(mixed[0])}{suffix}") for suffix in ["", "/bulkdata"])
    assert whole == bulk


@every_level
@pytest.mark.parametrize("kind", ["bulkdata", "pixeldata"])
def test_pixels_that_are_stored_compressed_are_decoded_to_bytes(origin, path, kind):
    data_set = image(rows=16, columns=16)
    plain = data_set.PixelData
    encode(data_set)
    data_set.compress(RLELossless, generate_instance_uid=False)
    origin.store(encode(data_set, RLELossless))
    assert [part.body for part in parts_of(origin, f"{path(data_set)}/{kind}")] == [plain]


@every_level
def test_compressed_pixels_are_given_without_the_delimiters_of_fragments(origin, path):
    data_set = image(rows=16, columns=16)
    encode(data_set)
    data_set.compress(RLELossless, generate_instance_uid=False)
    origin.store(encode(data_set, RLELossless))
    accept = f'multipart/related; type="image/dicom-rle"; transfer-syntax={RLELossless}'
    (part,) = parts_of(origin, f"{path(data_set)}/pixeldata", accept)
    (frame,) = parts_of(origin, f"{instance_path(data_set)}/frames/1", accept)
    assert part.body == frame.body
    assert multipart.parameters(part.headers["content-type"])[0] == "image/dicom-rle"


def test_big_endian_pixels_are_given_in_little_endian(origin):
    data_set = image()
    plain = data_set.PixelData
    data_set.PixelData = b"".join(plain[at : at + 2][::-1] for at in range(0, len(plain), 2))
    origin.store(encode(data_set, ExplicitVRBigEndian))
    assert [part.body for part in parts_of(origin, f"{study_path(data_set)}/pixeldata")] == [plain]


@pytest.mark.parametrize("keyword, bits", [("FloatPixelData", 32), ("DoubleFloatPixelData", 64)])
def test_float_pixels_are_pixel_data(origin, keyword, bits):
    value = np.arange(16, dtype=f"<f{bits // 8}").tobytes()
    data_set = instance(Rows=4, Columns=4, SamplesPerPixel=1, PhotometricInterpretation="MONOCHROME2", BitsAllocated=bits, **{keyword: value})
    origin.store(encode(data_set))
    assert [part.body for part in parts_of(origin, f"{study_path(data_set)}/pixeldata")] == [getattr(data_set, keyword)]


def test_what_is_no_pixel_data_at_the_top_level_is_left_out(origin):
    icon = image(rows=16, columns=16)
    data_set = instance(IconImageSequence=[icon], EncapsulatedDocument=DOCUMENT)
    origin.store(encode(data_set))
    assert origin.get(f"{instance_path(data_set)}/pixeldata", OCTETS).status_code == 404


@pytest.mark.parametrize("kind", ["bulkdata", "pixeldata"])
@pytest.mark.parametrize("accept", ["text/plain", "application/dicom+json", 'multipart/related; type="text/plain"'])
def test_other_media_types_are_406(origin, mixed, kind, accept):
    assert origin.get(f"{study_path(mixed[0])}/{kind}", accept).status_code == 406


@every_level
@pytest.mark.parametrize("kind", ["bulkdata", "pixeldata"])
def test_what_is_not_stored_is_404(origin, path, kind):
    assert origin.get(f"{path(instance())}/{kind}", OCTETS).status_code == 404


@every_level
@pytest.mark.parametrize("kind", ["bulkdata", "pixeldata"])
def test_it_is_the_same_while_nothing_changes(origin, mixed, path, kind):
    target = f"{path(mixed[0])}/{kind}"
    answer = origin.get(target, OCTETS)
    if "ETag" in answer.headers:
        assert origin.get(target, OCTETS, If_None_Match=answer.headers["ETag"]).status_code == 304
    assert origin.request("HEAD", target, headers={"Accept": OCTETS}).status_code == 200
