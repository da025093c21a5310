"""URI Service, also known as WADO-URI (PS3.18 §9)."""

import os
from io import BytesIO
from urllib.parse import quote, urlencode

import numpy
import pytest
import requests
from pydicom import dcmread
from pydicom.dataset import Dataset
from pydicom.uid import ExplicitVRLittleEndian, ImplicitVRLittleEndian, generate_uid

from build import encode, instance, instance_path
from rendered_images import COLUMNS, ROWS, difference, gradient, rendered_image, values, windowed
from test_8_3_5_1_6_presentation_states import state_of

DICOM, JPEG, PNG, GIF = "application/dicom", "image/jpeg", "image/png", "image/gif"
WINDOW = {"windowCenter": "1500", "windowWidth": "3000"}


@pytest.fixture(scope="module")
def wado(origin):
    """Requests an instance. The service is at `CUSPID_WADO_URL`, or at `/wado` of the server's root."""
    url = os.environ.get("CUSPID_WADO_URL") or origin.url.rsplit("/", 1)[0] + "/wado"

    def get(data_set, headers=None, encoded="", **parameters):
        query = {"requestType": "WADO"}
        if data_set is not None:
            query["studyUID"], query["seriesUID"] = data_set.StudyInstanceUID, data_set.SeriesInstanceUID
            query["objectUID"] = data_set.SOPInstanceUID
        query.update(parameters)
        given = {name: value for name, value in query.items() if value is not None}
        return requests.get(
            f"{url}?{urlencode(given, safe='/,', quote_via=quote)}&{encoded}",
            headers={"Accept": "*/*", "Accept-Encoding": "identity", **(headers or {})},
            timeout=60,
        )

    return get


@pytest.fixture(scope="module")
def stored(origin):
    data_set = gradient(WindowCenter="800", WindowWidth="400")
    origin.store(encode(data_set))
    return data_set


@pytest.fixture(scope="module")
def movie(origin):
    data_set = gradient(frames=3)
    origin.store(encode(data_set))
    return data_set


# §9.1.2, §9.3: identifiers and media types


def test_an_image_is_a_jpeg_by_default(wado, stored):
    answer = wado(stored)
    assert (answer.status_code, answer.headers["Content-Type"]) == (200, JPEG)
    assert int(answer.headers["Content-Length"]) == len(answer.content)
    found = rendered_image(answer.content)
    assert (found.format, found.size) == ("JPEG", (COLUMNS, ROWS))


@pytest.mark.parametrize(
    "content_type, expected",
    [(JPEG, JPEG), (PNG, PNG), (GIF, GIF), (f"image/x-unknown,{PNG}", PNG), (f"{JPEG};q=0.1,{PNG}", PNG), ("", JPEG)],
)
def test_a_rendered_image_comes_in_the_media_type_asked_for(wado, stored, content_type, expected):
    answer = wado(stored, contentType=content_type)
    assert (answer.status_code, answer.headers["Content-Type"]) == (200, expected)
    rendered_image(answer.content)


def test_values_may_be_percent_encoded(wado, stored):
    answer = wado(stored, encoded="contentType=image%2Fpng")
    assert answer.headers["Content-Type"] == PNG


def test_an_instance_comes_as_dicom(wado, stored):
    answer = wado(stored, contentType=DICOM)
    assert answer.status_code == 200
    # §8.7.3.5.2: without the parameter of the transfer syntax.
    assert answer.headers["Content-Type"] == DICOM
    found = dcmread(BytesIO(answer.content))
    assert found.SOPInstanceUID == stored.SOPInstanceUID
    assert found.PixelData == stored.PixelData


def test_what_is_no_image_comes_as_dicom_by_default(origin, wado):
    data_set = instance(SOPClassUID="1.2.840.10008.5.1.4.1.1.66")
    origin.store(encode(data_set))
    answer = wado(data_set)
    assert answer.status_code == 200
    assert answer.headers["Content-Type"].split(";")[0] == DICOM


def test_a_report_is_readable_by_default(origin, wado):
    data_set = instance(SOPClassUID="1.2.840.10008.5.1.4.1.1.88.11", Modality="SR", ValueType="CONTAINER")
    origin.store(encode(data_set))
    for content_type, expected in [("", "text/html"), ("text/html", "text/html"), ("text/plain", "text/plain"), (DICOM, DICOM)]:
        answer = wado(data_set, contentType=content_type)
        assert answer.status_code == 200
        assert answer.headers["Content-Type"].split(";")[0] == expected


def test_the_header_decides_where_the_query_names_nothing(wado, stored):
    assert wado(stored, {"Accept": DICOM}).headers["Content-Type"].split(";")[0] == DICOM
    assert wado(stored, {"Accept": PNG}).headers["Content-Type"] == PNG


def test_what_cannot_be_made_is_406(wado, stored):
    assert wado(stored, {"Accept": "image/x-unknown"}, contentType="image/x-unknown").status_code == 406


@pytest.mark.parametrize(
    "content_type", [f"{DICOM},{JPEG}", f"{DICOM}; transfer-syntax=1.2.840.10008.1.2.1", f"{DICOM}; charset=utf-8"]
)
def test_media_types_that_contradict_themselves_are_400(wado, stored, content_type):
    assert wado(stored, contentType=content_type).status_code == 400


@pytest.mark.parametrize("name", ["requestType", "studyUID", "seriesUID", "objectUID"])
def test_each_mandatory_parameter_must_be_there(wado, stored, name):
    assert wado(stored, **{name: None}).status_code == 400
    assert wado(stored, **{name: ""}).status_code == 400


def test_names_are_case_sensitive(wado, stored):
    assert wado(stored, requestType=None, requesttype="WADO").status_code == 400


def test_another_request_type_is_400(wado, stored):
    assert wado(stored, requestType="WADO-RS").status_code == 400


@pytest.mark.parametrize("name", ["studyUID", "seriesUID", "objectUID"])
def test_what_is_not_there_is_404(wado, stored, name):
    assert wado(stored, **{name: generate_uid()}).status_code == 404


# §9.4: DICOM instances


def test_the_default_transfer_syntax_is_explicit_little_endian(origin, wado):
    data_set = gradient()
    origin.store(encode(data_set, ImplicitVRLittleEndian))
    for parameters in [{}, {"transferSyntax": ExplicitVRLittleEndian}]:
        found = dcmread(BytesIO(wado(data_set, contentType=DICOM, **parameters).content))
        assert found.file_meta.TransferSyntaxUID == ExplicitVRLittleEndian
        assert found.PixelData == data_set.PixelData


def test_a_transfer_syntax_that_is_not_supported_is_406(wado, stored):
    assert wado(stored, contentType=DICOM, transferSyntax="1.2.840.10008.1.2.4.9999").status_code == 406


@pytest.mark.parametrize("value", ["*", "%2A", "1.2.840.10008.1.2.4.90,1.2.840.10008.1.2.1", "1.2.840.10008.1.2.4.90%2C%20*"])
def test_any_transfer_syntax_and_lists_are_read(origin, stored, value):
    """§8.7.3.6: `*` or a list; of the list, what can be given."""
    uids = f"studyUID={stored.StudyInstanceUID}&seriesUID={stored.SeriesInstanceUID}&objectUID={stored.SOPInstanceUID}"
    query = f"requestType=WADO&{uids}&contentType=application%2Fdicom&transferSyntax={value}"
    url = os.environ.get("CUSPID_WADO_URL") or origin.url.rsplit("/", 1)[0] + "/wado"
    answer = origin.session.get(f"{url}?{query}", timeout=60)
    assert answer.status_code == 200, answer.text
    found = dcmread(BytesIO(answer.content))
    assert found.file_meta.TransferSyntaxUID in (ExplicitVRLittleEndian, "1.2.840.10008.1.2.4.90")


@pytest.mark.parametrize("value", ["x", "1.2.840.10008.1.2.1;q=1", "1.2.840.10008.1.2.1,x", "**"])
def test_a_transfer_syntax_that_is_no_uid_is_400(wado, stored, value):
    assert wado(stored, contentType=DICOM, transferSyntax=value).status_code == 400


def test_a_window_is_for_rendered_images_only(wado, stored):
    assert wado(stored, contentType=DICOM, **WINDOW).status_code == 400


@pytest.mark.parametrize("content_type", [DICOM, JPEG])
def test_a_request_to_anonymize_is_refused_or_carried_out(wado, stored, content_type):
    """A server that cannot de-identify refuses (§9.4.2.3); what is carried out is in `test_part_15_e_deidentification.py`."""
    answer = wado(stored, contentType=content_type, anonymize="yes")
    assert answer.status_code >= 400 or b"Doe" not in answer.content


# §9.5: rendered images


def test_a_window_is_applied(wado, stored):
    answer = wado(stored, contentType=PNG, **WINDOW)
    assert difference(answer.content, windowed(values(), 1500, 3000)) <= 1
    own = wado(stored, contentType=PNG)
    assert difference(own.content, windowed(values(), 800, 400)) <= 1


@pytest.mark.parametrize(
    "parameters",
    [
        {"windowCenter": "40"},
        {"windowWidth": "400"},
        {"windowCenter": "x", "windowWidth": "400"},
        {"windowCenter": "40", "windowWidth": "x"},
    ],
)
def test_half_a_window_is_400(wado, stored, parameters):
    assert wado(stored, **parameters).status_code == 400


@pytest.mark.parametrize("number", [1, 3])
def test_a_frame_is_chosen_by_its_number(wado, movie, number):
    answer = wado(movie, contentType=PNG, frameNumber=number, **WINDOW)
    assert difference(answer.content, windowed(values(number), 1500, 3000)) <= 1


@pytest.mark.parametrize("number", ["0", "4", "-1", "x", "1.5", "1,2"])
def test_a_frame_that_is_not_there_is_400(wado, movie, number):
    assert wado(movie, frameNumber=number).status_code == 400


def test_a_movie_without_a_frame_number_is_one_image(wado, movie):
    answer = wado(movie, contentType=JPEG)
    assert (answer.status_code, answer.headers["Content-Type"]) == (200, JPEG)
    assert rendered_image(answer.content).size == (COLUMNS, ROWS)


@pytest.mark.parametrize(
    "parameters, size",
    [
        ({"rows": 96, "columns": 128}, (128, 96)),
        ({"rows": 100, "columns": 32}, (32, 24)),
        ({"rows": 24}, (32, 24)),
        ({"columns": 128}, (128, 96)),
        ({"region": "0,0,0.5,1"}, (32, 48)),
        ({"region": "0.5,0.5,1,1", "rows": 48, "columns": 64}, (64, 48)),
        ({"region": "0.25,0,0.75,0.5", "columns": 64}, (64, 48)),
        ({"rows": "", "columns": "", "region": ""}, (64, 48)),
    ],
)
def test_a_rendered_image_fits_into_rows_and_columns(wado, stored, parameters, size):
    answer = wado(stored, contentType=PNG, **parameters)
    assert answer.status_code == 200
    assert rendered_image(answer.content).size == size


def test_a_region_is_cut_out_exactly(wado, stored):
    answer = wado(stored, contentType=PNG, region="0.25,0.5,0.75,1.0", **WINDOW)
    assert difference(answer.content, windowed(values()[24:48, 16:48], 1500, 3000)) <= 1


@pytest.mark.parametrize(
    "turn, area",
    [(0, None), (90, None), (180, None), (0, ([5, 3], [44, 30])), (270, ([5, 3], [44, 30]))],
    ids=["as it is", "turned", "upside down", "cut", "cut and turned"],
)
def test_a_region_is_one_of_the_image_as_a_presentation_state_shows_it(origin, wado, stored, turn, area):
    """§9.5.2.4."""
    window = Dataset()
    window.WindowCenter, window.WindowWidth = 1500, 3000
    state = state_of(stored, SoftcopyVOILUTSequence=[window], ImageRotation=turn, ImageHorizontalFlip="N")
    if area:
        (shown,) = state.DisplayedAreaSelectionSequence
        shown.DisplayedAreaTopLeftHandCorner, shown.DisplayedAreaBottomRightHandCorner = area
    origin.store(encode(state))
    presented = {"contentType": PNG, "presentationUID": state.SOPInstanceUID, "presentationSeriesUID": state.SeriesInstanceUID}
    whole = numpy.asarray(rendered_image(wado(stored, **presented).content).convert("L"))
    (x1, y1), (x2, y2) = area or ([1, 1], [stored.Columns, stored.Rows])
    size = (y2 - y1 + 1, x2 - x1 + 1)
    assert whole.shape == (size if turn % 180 == 0 else size[::-1])
    rows, columns = whole.shape
    for region, cut in [
        ("0,0,0.5,0.5", whole[: rows // 2, : columns // 2]),
        ("0.5,0.5,1,1", whole[rows // 2 :, columns // 2 :]),
        ("0,0.5,1,1", whole[rows // 2 :]),
    ]:
        assert difference(wado(stored, region=region, **presented).content, cut) <= 1


@pytest.mark.parametrize("value", ["0,0,1", "0,0,1,1,1", "0.5,0,0.5,1", "0,0.6,1,0.5", "-0.1,0,1,1", "0,0,1.1,1", "a,0,1,1", "0,0,,1"])
def test_a_region_that_is_none_is_400(wado, stored, value):
    assert wado(stored, region=value).status_code == 400


@pytest.mark.parametrize("name", ["rows", "columns"])
@pytest.mark.parametrize("value", ["0", "-5", "1.5", "x"])
def test_a_size_that_is_none_is_400(wado, stored, name, value):
    assert wado(stored, **{name: value}).status_code == 400


def test_quality_makes_a_difference(wado, stored):
    sizes = [len(wado(stored, contentType=JPEG, imageQuality=quality, **WINDOW).content) for quality in (1, 50, 100)]
    assert sizes == sorted(set(sizes))


@pytest.mark.parametrize("value", ["0", "101", "x"])
def test_a_quality_that_is_none_is_400(wado, stored, value):
    assert wado(stored, imageQuality=value).status_code == 400


@pytest.mark.parametrize("name", ["annotation", "imageAnnotation"])
def test_annotations_are_burned_in(wado, stored, name):
    size = {"contentType": PNG, "rows": 480, "columns": 640}
    assert wado(stored, **size).content != wado(stored, **size, **{name: "patient,technique"}).content


def test_parameters_that_are_not_known_are_ignored(wado, stored):
    plain = wado(stored, contentType=PNG)
    assert wado(stored, contentType=PNG, foo="bar", charset="utf-8", FrameNumber="9").content == plain.content


# §9.5.1.2.7: presentation states


@pytest.mark.parametrize("name", ["presentationUID", "presentationSeriesUID"])
def test_half_a_presentation_state_is_400(wado, stored, name):
    assert wado(stored, **{name: generate_uid()}).status_code == 400


def test_a_presentation_state_that_is_not_stored_is_400(wado, stored):
    assert wado(stored, presentationSeriesUID=generate_uid(), presentationUID=generate_uid()).status_code == 400


def test_a_rendered_image_names_its_instance(wado, stored):
    for content_type in [JPEG, DICOM]:
        location = wado(stored, contentType=content_type).headers["Content-Location"]
        assert location.endswith(instance_path(stored))
