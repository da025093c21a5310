"""Verification and Storage as an SCP (PS3.4 Annexes A and B), by pynetdicom."""

from io import BytesIO

import pytest
from pydicom import dcmread
from pydicom.uid import (
    CTImageStorage,
    DeflatedExplicitVRLittleEndian,
    EncapsulatedPDFStorage,
    ExplicitVRBigEndian,
    ExplicitVRLittleEndian,
    ImplicitVRLittleEndian,
    JPEG2000Lossless,
    JPEGBaseline8Bit,
)
from pynetdicom import AE, AllStoragePresentationContexts
from pynetdicom.presentation import build_context
from pynetdicom.sop_class import Verification

from build import encode, image, instance, instance_path

SINGLE = "application/dicom; transfer-syntax=*"
PRIVATE_SOP_CLASS = "1.3.46.670589.11.0.0.12.1"


@pytest.fixture
def associate(origin):
    opened = []

    def associate(*contexts, **more):
        client = AE("CONFORMANCE")
        client.requested_contexts = list(contexts)
        association = client.associate(*origin.dimse, ae_title=origin.ae_title, **more)
        assert association.is_established
        opened.append(association)
        return association

    yield associate
    for association in opened:
        association.release()


def read(data_set, transfer_syntax=ExplicitVRLittleEndian):
    return dcmread(BytesIO(encode(data_set, transfer_syntax)))


def test_verification_succeeds(associate):
    assert associate(build_context(Verification)).send_c_echo().Status == 0


@pytest.mark.parametrize("transfer_syntax", [ImplicitVRLittleEndian, ExplicitVRLittleEndian, ExplicitVRBigEndian])
def test_a_stored_instance_can_be_retrieved_with_its_attributes(origin, associate, transfer_syntax):
    data_set = image(PatientComments="by C-STORE")
    if transfer_syntax == ExplicitVRBigEndian:
        data_set.PixelData = bytes(len(data_set.PixelData))
    association = associate(build_context(CTImageStorage, transfer_syntax))
    assert association.send_c_store(read(data_set, transfer_syntax)).Status == 0
    stored = dcmread(BytesIO(origin.get(instance_path(data_set), SINGLE).content))
    # PS3.18 §8.7.3: the other two shall not be used with web services.
    assert stored.file_meta.TransferSyntaxUID == ExplicitVRLittleEndian
    assert stored == data_set
    (found,) = origin.json(f"/instances?SOPInstanceUID={data_set.SOPInstanceUID}")
    assert found["0020000E"]["Value"] == [data_set.SeriesInstanceUID]


def test_a_resend_succeeds(associate):
    association = associate(build_context(CTImageStorage, ExplicitVRLittleEndian))
    data_set = read(image())
    assert [association.send_c_store(data_set).Status for _ in range(3)] == [0, 0, 0]


def test_other_bytes_under_a_stored_uid_are_not_a_success(origin, associate):
    association = associate(build_context(CTImageStorage, ExplicitVRLittleEndian))
    data_set = read(image())
    assert association.send_c_store(data_set).Status == 0
    data_set.PatientComments = "other"
    assert association.send_c_store(data_set).Status != 0
    assert "PatientComments" not in dcmread(BytesIO(origin.get(instance_path(data_set), SINGLE).content))


def test_what_cannot_be_understood_has_a_status_of_table_b_2_1(associate):
    association = associate(build_context(CTImageStorage, ExplicitVRLittleEndian))
    data_set = read(image())
    del data_set.StudyInstanceUID
    status = association.send_c_store(data_set).Status
    assert 0xA900 <= status <= 0xA9FF or 0xC000 <= status <= 0xCFFF
    assert association.send_c_store(read(image())).Status == 0, "the association goes on"


def test_every_storage_sop_class_is_accepted(associate):
    for at in range(0, len(AllStoragePresentationContexts), 120):
        contexts = AllStoragePresentationContexts[at : at + 120]
        association = associate(*contexts)
        assert len(association.accepted_contexts) == len(contexts)


def test_private_sop_classes_are_accepted(associate):
    association = associate(build_context(PRIVATE_SOP_CLASS, ExplicitVRLittleEndian))
    assert association.send_c_store(read(image(SOPClassUID=PRIVATE_SOP_CLASS))).Status == 0


@pytest.mark.parametrize(
    "transfer_syntax",
    [DeflatedExplicitVRLittleEndian, JPEGBaseline8Bit, JPEG2000Lossless, "1.2.840.10008.1.2.4.202", "1.2.840.10008.1.2.4.102"],
)
def test_every_transfer_syntax_is_accepted(associate, transfer_syntax):
    association = associate(build_context(CTImageStorage, transfer_syntax))
    assert len(association.accepted_contexts) == 1


def test_instances_of_several_contexts_come_over_one_association(origin, associate):
    association = associate(
        build_context(Verification),
        build_context(CTImageStorage, ExplicitVRLittleEndian),
        build_context(EncapsulatedPDFStorage, ExplicitVRLittleEndian),
    )
    pdf = instance(SOPClassUID=EncapsulatedPDFStorage, MIMETypeOfEncapsulatedDocument="application/pdf")
    pdf.EncapsulatedDocument = b"%PDF-1.4 x"
    for data_set in [image(), pdf, image()]:
        assert association.send_c_store(read(data_set)).Status == 0
        assert association.send_c_echo().Status == 0
        assert origin.get(instance_path(data_set), SINGLE).status_code == 200


@pytest.mark.parametrize("max_pdu", [4096, 16382, 0])
def test_any_pdu_size_will_do(origin, associate, max_pdu):
    association = associate(build_context(CTImageStorage, ExplicitVRLittleEndian), max_pdu=max_pdu)
    data_set = image(rows=128, columns=128)
    assert association.send_c_store(read(data_set)).Status == 0
    assert dcmread(BytesIO(origin.get(instance_path(data_set), SINGLE).content)).PixelData == data_set.PixelData


def test_an_abort_leaves_what_was_acknowledged(origin, associate):
    association = associate(build_context(CTImageStorage, ExplicitVRLittleEndian))
    data_set = image()
    assert association.send_c_store(read(data_set)).Status == 0
    association.abort()
    assert origin.get(instance_path(data_set), SINGLE).status_code == 200
