"""Rendered presentation states (PS3.18 §8.3.5.1.6, PS3.4 Annex N): the referenced images, with the state applied."""

import numpy
import pytest
from pydicom.dataset import Dataset
from pydicom.sequence import Sequence
from pydicom.uid import GrayscaleSoftcopyPresentationStateStorage

import reference
from build import encode, instance
from test_10_4_rendered_pixels import COLUMNS, ROWS, assert_alike, grey, seen, table


def item(**attributes) -> Dataset:
    data_set = Dataset()
    for keyword, value in attributes.items():
        setattr(data_set, keyword, value)
    return data_set


def referring_to(image: Dataset) -> Sequence:
    return Sequence([item(ReferencedSOPClassUID=image.SOPClassUID, ReferencedSOPInstanceUID=image.SOPInstanceUID)])


def state_of(image: Dataset, **attributes) -> Dataset:
    """A grayscale softcopy presentation state of all of an image."""
    series = item(SeriesInstanceUID=image.SeriesInstanceUID, ReferencedImageSequence=referring_to(image))
    area = item(
        DisplayedAreaTopLeftHandCorner=[1, 1],
        DisplayedAreaBottomRightHandCorner=[image.Columns, image.Rows],
        PresentationSizeMode="SCALE TO FIT",
        PresentationPixelAspectRatio=[1, 1],
    )
    usual = {
        "SOPClassUID": GrayscaleSoftcopyPresentationStateStorage,
        "StudyInstanceUID": image.StudyInstanceUID,
        "Modality": "PR",
        "ReferencedSeriesSequence": Sequence([series]),
        "DisplayedAreaSelectionSequence": Sequence([area]),
        "PresentationLUTShape": "IDENTITY",
    }
    return instance(**{**usual, **attributes})


@pytest.fixture(scope="module")
def image(origin):
    data_set = grey((16, 12, 11), photometric="MONOCHROME1")
    # A presentation state allows neither.
    data_set.WindowCenter, data_set.WindowWidth = 100, 200
    origin.store(encode(data_set))
    return data_set


def expected(image: Dataset, window: tuple) -> numpy.ndarray:
    """Without the inversion of MONOCHROME1."""
    return 255 - reference.rendered(image, window=window)


def presented(origin, state: Dataset, query: str = "") -> numpy.ndarray:
    origin.store(encode(state))
    return seen(origin, state, query)


WINDOW = {"WindowCenter": 2000, "WindowWidth": 3000}


def test_values_are_those_of_the_state(origin, image):
    state = state_of(image, SoftcopyVOILUTSequence=Sequence([item(**WINDOW)]))
    assert_alike(presented(origin, state), expected(image, (2000, 3000, "LINEAR")))


def test_without_a_modality_lut_values_are_as_they_are_stored(origin):
    """PS3.4 §N.2: a transformation that the state lacks is the identity, whatever the image has."""
    rescaled = grey((16, 12, 11))
    plain = reference.rendered(rescaled, window=(2000, 3000, "LINEAR"))
    rescaled.RescaleSlope, rescaled.RescaleIntercept, rescaled.RescaleType = 2, -1000, "HU"
    origin.store(encode(rescaled))
    state = state_of(rescaled, SoftcopyVOILUTSequence=Sequence([item(**WINDOW)]))
    assert_alike(presented(origin, state), plain)
    own = state_of(
        rescaled, SoftcopyVOILUTSequence=Sequence([item(**WINDOW)]), RescaleSlope=2, RescaleIntercept=-1000, RescaleType="HU"
    )
    assert_alike(presented(origin, own), reference.rendered(rescaled, window=(2000, 3000, "LINEAR")))


def test_an_inverse_shape_is_applied(origin, image):
    state = state_of(image, SoftcopyVOILUTSequence=Sequence([item(**WINDOW)]), PresentationLUTShape="INVERSE")
    assert_alike(presented(origin, state), 255 - expected(image, (2000, 3000, "LINEAR")))


def test_a_presentation_lut_is_applied(origin, image):
    state = state_of(image, SoftcopyVOILUTSequence=Sequence([item(**WINDOW)]))
    state.PresentationLUTSequence = table(65535 - numpy.arange(4096) * 16, 0, 16)
    del state.PresentationLUTShape
    assert_alike(presented(origin, state), 255 - expected(image, (2000, 3000, "LINEAR")))


def test_a_voi_lut_is_for_the_images_that_it_names(origin, image):
    other = Sequence([item(ReferencedSOPClassUID="1.2", ReferencedSOPInstanceUID="1.2.3")])
    items = [item(WindowCenter=1, WindowWidth=2, ReferencedImageSequence=other)]
    items.append(item(**WINDOW, ReferencedImageSequence=referring_to(image)))
    state = state_of(image, SoftcopyVOILUTSequence=Sequence(items))
    assert_alike(presented(origin, state), expected(image, (2000, 3000, "LINEAR")))


@pytest.mark.parametrize("rotation", [0, 90, 180, 270])
@pytest.mark.parametrize("flip", ["N", "Y"])
def test_the_image_is_turned_clockwise_then_flipped(origin, image, rotation, flip):
    state = state_of(image, SoftcopyVOILUTSequence=Sequence([item(**WINDOW)]))
    state.ImageRotation, state.ImageHorizontalFlip = rotation, flip
    turned = numpy.rot90(expected(image, (2000, 3000, "LINEAR")), -rotation // 90)
    assert_alike(presented(origin, state), turned[:, ::-1] if flip == "Y" else turned)


def test_the_displayed_area_is_cut_out_and_fitted(origin, image):
    state = state_of(image, SoftcopyVOILUTSequence=Sequence([item(**WINDOW)]))
    area = state.DisplayedAreaSelectionSequence[0]
    area.DisplayedAreaTopLeftHandCorner, area.DisplayedAreaBottomRightHandCorner = [11, 5], [40, 24]
    whole = expected(image, (2000, 3000, "LINEAR"))
    assert_alike(presented(origin, state), whole[4:24, 10:40])
    assert seen(origin, state, "?viewport=60,60").shape == (40, 60)


def test_an_area_is_magnified(origin, image):
    state = state_of(image, SoftcopyVOILUTSequence=Sequence([item(**WINDOW)]))
    area = state.DisplayedAreaSelectionSequence[0]
    area.PresentationSizeMode, area.PresentationPixelMagnificationRatio = "MAGNIFY", 3
    assert presented(origin, state).shape == (3 * ROWS, 3 * COLUMNS)


def graphic(kind: str, data: list, units: str = "PIXEL") -> Dataset:
    graphic = item(GraphicAnnotationUnits=units, GraphicDimensions=2, GraphicType=kind, GraphicFilled="N")
    graphic.NumberOfGraphicPoints, graphic.GraphicData = len(data) // 2, data
    return graphic


@pytest.mark.parametrize(
    "kind, units, data, through",
    [
        ("POINT", "PIXEL", [24, 16], (16, 24)),
        ("POLYLINE", "PIXEL", [4, 4, 40, 4, 40, 20], (10, 40)),
        ("POLYLINE", "DISPLAY", [0.25, 0.5, 0.75, 0.5], (16, 24)),
        ("CIRCLE", "PIXEL", [24, 16, 34, 16], (16, 34)),
        ("ELLIPSE", "PIXEL", [4, 16, 44, 16, 24, 6, 24, 26], (16, 44)),
        ("INTERPOLATED", "PIXEL", [4, 4, 20, 4, 30, 4], (4, 20)),
    ],
)
def test_graphics_are_drawn_over_the_image(origin, image, kind, units, data, through):
    annotation = item(GraphicLayer="L", GraphicObjectSequence=Sequence([graphic(kind, data, units)]))
    plain = presented(origin, state_of(image))
    drawn = presented(origin, state_of(image, GraphicAnnotationSequence=Sequence([annotation])))
    assert plain.shape == drawn.shape
    row, column = through
    around = (slice(row - 2, row + 2), slice(column - 2, column + 2))
    assert (plain[around] != drawn[around]).any()


def test_text_is_written_into_the_image(origin, image):
    text = item(BoundingBoxAnnotationUnits="PIXEL", UnformattedTextValue="ab\r\nc")
    text.BoundingBoxTopLeftHandCorner, text.BoundingBoxBottomRightHandCorner = [4, 2], [40, 20]
    text.BoundingBoxTextHorizontalJustification = "LEFT"
    annotation = item(GraphicLayer="L", TextObjectSequence=Sequence([text]))
    plain = presented(origin, state_of(image))
    written = presented(origin, state_of(image, GraphicAnnotationSequence=Sequence([annotation])))
    assert (plain[2:20, 4:20] != written[2:20, 4:20]).any()
    assert (plain[:, 30:] == written[:, 30:]).all()


def test_a_state_can_be_annotated_in_every_format(origin, image):
    state = state_of(image)
    assert presented(origin, state, "?annotation=patient&viewport=200,200").shape[:2] == (133, 200)
