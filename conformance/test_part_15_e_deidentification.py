"""De-identification by the Basic Application Level Confidentiality Profile (PS3.15 Annex E), over WADO-RS and WADO-URI.

`anonymize=yes` is of PS3.18 §9.4 for WADO-URI, and an extension for WADO-RS. A server that has no such extension must refuse it: what a
client asked to be without names must not have any.
"""

import os
import re
import subprocess
import zipfile
from io import BytesIO

import pytest
from pydicom import dcmread
from pydicom.dataset import Dataset
from pydicom.encaps import encapsulate
from pydicom.uid import (
    BasicTextSRStorage,
    CTImageStorage,
    DigitalXRayImageStorageForPresentation,
    EncapsulatedPDFStorage,
    ExplicitVRLittleEndian,
    ImplicitVRLittleEndian,
    MultiFrameGrayscaleWordSecondaryCaptureImageStorage,
    RLELossless,
    SecondaryCaptureImageStorage,
    UltrasoundImageStorage,
    generate_uid,
)

import multipart
from build import encode, image, instance_path, series_path, study_path
from conftest import INSTANCES, launched

DICOM = "application/dicom; transfer-syntax=*"
ZIP = "application/zip"
NAMES = [b"Hong", b"Gildong", "홍길동".encode(), b"SECRET", b"Kim^Doctor", b"ACC-7788", b"P-4711", b"20240115", b"19700203", b"Seoul"]


def reference(uid, sop_class=CTImageStorage):
    item = Dataset()
    item.ReferencedSOPClassUID, item.ReferencedSOPInstanceUID = sop_class, uid
    return item


def known(study, series, uid, other, **more):
    """An instance full of names, which refers to another one of its study."""
    photographer, code, request = Dataset(), Dataset(), Dataset()
    photographer.InstitutionName, photographer.PersonIdentificationCodeSequence = "SECRET clinic", [code]
    code.CodeValue, code.CodingSchemeDesignator, code.CodeMeaning = "SECRET", "L", "SECRET"
    request.ScheduledProcedureStepDescription, request.ReferencedStudySequence = "SECRET", [reference(study)]
    request.RequestedProcedureID, request.AccessionNumber = "SECRET", "ACC-7788"
    attributes = dict(
        SpecificCharacterSet="ISO_IR 192",
        StudyInstanceUID=study,
        SeriesInstanceUID=series,
        SOPInstanceUID=uid,
        FrameOfReferenceUID=f"{study}.9",
        PatientName="Hong^Gildong=홍^길동=홍길동",
        PatientID="P-4711",
        IssuerOfPatientID="SECRET",
        PatientBirthDate="19700203",
        PatientSex="M",
        PatientAge="053Y",
        PatientWeight=70.5,
        OtherPatientNames=["Hong^Gildong", "SECRET"],
        PatientComments="SECRET",
        AccessionNumber="ACC-7788",
        ReferringPhysicianName="Kim^Doctor",
        OperatorsName="Kim^Doctor",
        OperatorIdentificationSequence=[photographer],
        InstitutionName="Seoul SECRET",
        InstitutionAddress="Seoul",
        StationName="SECRET",
        DeviceSerialNumber="SECRET",
        Manufacturer="ACME",
        StudyDescription="CT chest SECRET",
        SeriesDescription="SECRET",
        ProtocolName="SECRET",
        StudyDate="20240115",
        SeriesDate="20240115",
        AcquisitionDate="20240115",
        ContentDate="20240115",
        AcquisitionDateTime="20240115101500.5",
        StudyTime="101500",
        ImageComments="SECRET",
        RequestAttributesSequence=[request],
        ReferencedImageSequence=[reference(other)],
        SourceImageSequence=[reference(other)],
        SliceThickness=1.5,
        KVP=120,
    )
    attributes.update(more)
    data_set = image(**attributes)
    block = data_set.private_block(0x0009, "SECRET CREATOR", create=True)
    block.add_new(1, "LO", "Hong^Gildong")
    block.add_new(2, "SQ", [request])
    siemens = data_set.private_block(0x0019, "SIEMENS MR HEADER", create=True)
    siemens.add_new(0x0C, "IS", 1000)
    siemens.add_new(0x0F, "LO", "SECRET")
    data_set.add_new(0x60000010, "US", 4)
    data_set.add_new(0x60003000, "OW", b"SECRET")
    data_set.add_new(0x60004000, "LT", "SECRET")
    data_set.add_new(0xFFFCFFFC, "OB", b"SECRET")
    return data_set


def samples(frames=1):
    """The samples of the frames of `image`."""
    encode(data_set := image(frames))
    return data_set.pixel_array.copy()


def compress(data_set):
    """Compresses the frames without loss; pydicom needs to know that they are not compressed yet."""
    encode(data_set)
    data_set.compress(RLELossless, generate_instance_uid=False)


@pytest.fixture(scope="module")
def study(origin):
    """Three instances in two series that refer to each other; one is compressed."""
    study, series, other_series = generate_uid(), generate_uid(), generate_uid()
    uids = [generate_uid() for _ in range(3)]
    first = known(study, series, uids[0], uids[1], InstanceNumber=1)
    second = known(study, series, uids[1], uids[2], InstanceNumber=2)
    third = known(study, other_series, uids[2], uids[0], InstanceNumber=1)
    compress(third)
    files = [bytearray(encode(first)), bytearray(encode(second, ImplicitVRLittleEndian)), bytearray(encode(third, RLELossless))]
    for file in files:
        file[:6] = b"SECRET"
    origin.store(*map(bytes, files))
    return [first, second, third]


def copies(origin, path, accept=INSTANCES, **parameters):
    query = "&".join(f"{name.replace('_', '-')}={value}" for name, value in {"anonymize": "yes", **parameters}.items())
    return origin.get(f"{path}?{query}", accept)


def hidden(study):
    """Everything that no byte of a response may hold."""
    uids = {str(element.value) for data_set in study for element in data_set.iterall() if element.VR == "UI"}
    structural = {uid for uid in uids if uid.startswith("1.2.840.10008.")}
    return [*NAMES, *(uid.encode() for uid in uids - structural)]


def check_hidden(answer, study):
    head = "\n".join(f"{name}: {value}" for name, value in answer.headers.items()).encode()
    for text in hidden(study):
        assert text not in answer.content, text
        assert text not in head, text


def read(answer):
    return [dcmread(BytesIO(part.body)) for part in multipart.read(answer)]


def test_no_name_and_no_uid_is_in_any_byte_of_a_study(origin, study):
    answer = copies(origin, study_path(study[0]))
    assert answer.status_code == 200, answer.text[:300]
    check_hidden(answer, study)
    assert len(read(answer)) == 3


@pytest.mark.parametrize("index", [0, 1, 2])
@pytest.mark.parametrize("accept", [DICOM, "application/dicom", INSTANCES])
def test_one_instance_alone_or_as_a_part(origin, study, index, accept):
    answer = copies(origin, instance_path(study[index]), accept)
    assert answer.status_code == 200, answer.text[:300]
    check_hidden(answer, study)
    found = dcmread(BytesIO(answer.content)) if accept != INSTANCES else read(answer)[0]
    assert found.PatientIdentityRemoved == "YES"
    assert found.SliceThickness == 1.5 and found.KVP == 120 and found.Manufacturer == "ACME"
    assert (found.pixel_array == samples()).all()
    # The headers and the ends of compressed frames can hold anything.
    assert found.file_meta.TransferSyntaxUID == ExplicitVRLittleEndian


def test_copies_refer_to_copies(origin, study):
    found = read(copies(origin, study_path(study[0])))
    uids = {data_set.SOPInstanceUID for data_set in found}
    assert len(uids) == 3 and all(uid.startswith("2.25.") for uid in uids)
    assert len({data_set.StudyInstanceUID for data_set in found}) == 1
    assert len({data_set.SeriesInstanceUID for data_set in found}) == 2
    assert len({data_set.FrameOfReferenceUID for data_set in found}) == 1
    for data_set in found:
        assert data_set.file_meta.MediaStorageSOPInstanceUID == data_set.SOPInstanceUID
        assert data_set.SOPClassUID == CTImageStorage
    again = read(copies(origin, study_path(study[0])))
    assert [data_set.SOPInstanceUID for data_set in again] == [data_set.SOPInstanceUID for data_set in found]


def test_locations_are_those_of_copies(origin, study):
    answer = copies(origin, study_path(study[0]))
    for part, data_set in zip(multipart.read(answer), read(answer)):
        assert part.headers["content-location"].endswith(instance_path(data_set))
    assert study_path(read(answer)[0]) in answer.headers["Content-Location"]


def test_the_data_set_says_what_was_done(origin, study):
    found = read(copies(origin, series_path(study[0])))[0]
    assert found.DeidentificationMethod
    codes = [(item.CodeValue, item.CodingSchemeDesignator) for item in found.DeidentificationMethodCodeSequence]
    assert codes == [("113100", "DCM")]
    assert found.LongitudinalTemporalInformationModified == "REMOVED"
    assert found.PatientName == found.PatientID and found.PatientBirthDate == ""
    for keyword in ["StudyDate", "AccessionNumber", "ReferringPhysicianName", "StudyID"]:
        assert not found.get(keyword)
    assert not [element for element in found.iterall() if element.tag.is_private or element.tag.group in range(0x6000, 0x6100)]
    assert found.file_meta.get("SourceApplicationEntityTitle") is None and found.preamble == bytes(128)


@pytest.mark.parametrize(
    ("option", "keyword", "value", "code"),
    [
        ("retain-uids", "SOPInstanceUID", None, "113110"),
        ("retain-patient-characteristics", "PatientWeight", 70.5, "113108"),
        ("retain-device-identity", "DeviceSerialNumber", "SECRET", "113109"),
        ("retain-institution-identity", "InstitutionName", "Seoul SECRET", "113112"),
        ("retain-full-dates", "StudyDate", "20240115", "113106"),
        ("clean-descriptors", "StudyDescription", "CT chest", "113105"),
    ],
)
def test_an_option_keeps_its_attributes_and_is_named(origin, study, option, keyword, value, code):
    answer = copies(origin, instance_path(study[0]), DICOM, anonymize_options=option)
    found = dcmread(BytesIO(answer.content))
    assert found[keyword].value == (value if value is not None else study[0].SOPInstanceUID)
    assert code in [item.CodeValue for item in found.DeidentificationMethodCodeSequence]
    assert b"Hong" not in answer.content and b"Kim^Doctor" not in answer.content and b"P-4711" not in answer.content


def test_modified_dates_keep_their_distances(origin, study):
    answer = copies(origin, instance_path(study[0]), DICOM, anonymize_options="retain-modified-dates")
    found = dcmread(BytesIO(answer.content))
    assert found.StudyDate == found.SeriesDate == found.AcquisitionDateTime[:8] != "20240115"
    assert found.AcquisitionDateTime[8:] == "101500.5" and found.StudyTime == "101500"
    assert found.LongitudinalTemporalInformationModified == "MODIFIED"
    assert b"20240115" not in answer.content


def test_safe_private_attributes_keep_their_creator_alone(origin, study):
    answer = copies(origin, instance_path(study[0]), DICOM, anonymize_options="retain-safe-private")
    found = dcmread(BytesIO(answer.content))
    assert found.private_block(0x0019, "SIEMENS MR HEADER")[0x0C].value == 1000
    assert b"SECRET" not in answer.content


@pytest.mark.parametrize("path", [study_path, series_path, instance_path])
def test_a_zip_file_has_the_names_of_copies(origin, study, path):
    answer = copies(origin, path(study[0]), ZIP, filename="Hong+Gildong.zip")
    assert answer.status_code == 200, answer.text[:300]
    check_hidden(answer, study)
    archive = zipfile.ZipFile(BytesIO(answer.content))
    assert archive.testzip() is None
    assert len(archive.namelist()) == {study_path: 3, series_path: 2, instance_path: 1}[path]
    for name in archive.namelist():
        found = dcmread(BytesIO(archive.read(name)))
        assert name == f"{found.StudyInstanceUID}/{found.SeriesInstanceUID}/{found.SOPInstanceUID}.dcm"
    assert re.search(r'filename="2\.25\.\d+\.zip"', answer.headers["Content-Disposition"])


def test_validators_are_those_of_copies(origin, study):
    for path, accept in [(study_path(study[0]), INSTANCES), (instance_path(study[0]), DICOM), (study_path(study[0]), ZIP)]:
        tags = {origin.get(path, accept).headers["ETag"]}
        for options in ["none", "retain-uids", "retain-full-dates"]:
            answer = copies(origin, path, accept, anonymize_options=options)
            assert answer.headers["Cache-Control"].startswith("private")
            tags.add(answer.headers["ETag"])
            again = origin.get(f"{path}?anonymize=yes&anonymize-options={options}", accept, If_None_Match=answer.headers["ETag"])
            assert again.status_code == 304
        assert len(tags) == 4


def test_wado_uri_gives_the_same_copy(origin, study):
    url = os.environ.get("CUSPID_WADO_URL") or origin.url.rsplit("/", 1)[0] + "/wado"
    first = study[0]
    uids = {"studyUID": first.StudyInstanceUID, "seriesUID": first.SeriesInstanceUID, "objectUID": first.SOPInstanceUID}
    parameters = {"requestType": "WADO", **uids, "contentType": "application/dicom", "anonymize": "yes"}
    answer = origin.session.get(url, params=parameters, timeout=60)
    assert answer.status_code == 200, answer.text
    check_hidden(answer, study)
    assert dcmread(BytesIO(answer.content)).SOPInstanceUID == read(copies(origin, instance_path(first)))[0].SOPInstanceUID
    for content_type in ["image/jpeg", None]:
        refused = origin.session.get(url, params={**parameters, "contentType": content_type}, timeout=60)
        assert refused.status_code == 400


@pytest.mark.parametrize("resource", ["/metadata", "/rendered", "/thumbnail", "/frames/1", "/frames/1/rendered", "/bulkdata", "/pixeldata"])
def test_what_cannot_be_anonymized_is_refused(origin, study, resource):
    path = instance_path(study[0]) + resource
    for query in ["anonymize=yes", "anonymize-options=retain-uids", "Anonymize=yes", "anonymise=yes"]:
        answer = origin.request("GET", f"{path}?{query}", headers={"Accept": "*/*"})
        assert answer.status_code == 400 and b"Hong" not in answer.content


@pytest.mark.parametrize("query", ["anonymize=no", "anonymize=YES", "anonymise=yes", "anonymize=yes&anonymize-options=retain-names", "anonymize-options=retain-uids"])
def test_a_mistake_shows_no_names(origin, study, query):
    answer = origin.get(f"{instance_path(study[0])}?{query}", DICOM)
    assert answer.status_code == 400 and b"Hong" not in answer.content


@pytest.mark.parametrize(
    ("more", "is_given"),
    [
        ({"SOPClassUID": SecondaryCaptureImageStorage}, False),
        ({"SOPClassUID": SecondaryCaptureImageStorage, "BurnedInAnnotation": "NO"}, True),
        ({"SOPClassUID": UltrasoundImageStorage}, False),
        ({"BurnedInAnnotation": "YES"}, False),
        ({"RecognizableVisualFeatures": "YES"}, False),
        ({"SOPClassUID": EncapsulatedPDFStorage, "EncapsulatedDocument": b"SECRET", "MIMETypeOfEncapsulatedDocument": "application/pdf"}, False),
        ({"SOPClassUID": BasicTextSRStorage}, False),
    ],
)
def test_what_nobody_looked_at_is_left_out_with_a_message(origin, more, is_given):
    plain = image()
    other = image(StudyInstanceUID=plain.StudyInstanceUID, SeriesInstanceUID=plain.SeriesInstanceUID, **more)
    origin.store(encode(plain), encode(other))
    alone = copies(origin, instance_path(other), DICOM)
    assert alone.status_code == (200 if is_given else 406)
    answer = copies(origin, study_path(plain))
    assert len(read(answer)) == (2 if is_given else 1)
    assert answer.status_code == (200 if is_given else 206)
    assert is_given or "cannot be de-identified" in answer.headers["Warning"]
    zipped = copies(origin, study_path(plain), ZIP)
    names = zipfile.ZipFile(BytesIO(zipped.content)).namelist()
    assert ("LEFT-OUT.TXT" in names) != is_given and len(names) == 2
    for response in [alone, answer, zipped]:
        check_hidden(response, [plain, other])


NOTES = {
    "comment": lambda jpeg: jpeg[:2] + b"\xff\xfe\x00\x0eHong^Gildong" + jpeg[2:],
    "thumbnail": lambda jpeg: jpeg[:2] + b"\xff\xe0\x00\x1cJFIF\0\1\1\0\0\1\0\1\1\1Hong^Gildong"[:30] + jpeg[2:],
    "after a large header": lambda jpeg: jpeg[:2] + 3 * (b"\xff\xe5\xea\x60" + bytes(59998)) + b"\xff\xfe\x00\x0eHong^Gildong" + jpeg[2:],
    "after the end": lambda jpeg: jpeg + b"Hong^Gildong",
}


@pytest.mark.parametrize("accept", [DICOM, "application/dicom", INSTANCES])
@pytest.mark.parametrize("place", NOTES)
def test_notes_in_compressed_frames_do_not_leave(origin, place, accept):
    """A JPEG comment may name anything (ISO/IEC 10918-1 §B.2.4.5), and cameras write behind the end of the image."""
    from PIL import Image

    buffer = BytesIO()
    Image.new("L", (16, 16), 100).save(buffer, "JPEG")
    data_set = image(rows=16, columns=16, LossyImageCompression="01")
    data_set.BitsAllocated, data_set.BitsStored, data_set.HighBit = 8, 8, 7
    data_set.PixelData = encapsulate([NOTES[place](buffer.getvalue())])
    data_set["PixelData"].is_undefined_length = True
    origin.store(encode(data_set, "1.2.840.10008.1.2.4.50"))
    answer = copies(origin, instance_path(data_set), accept)
    assert answer.status_code == 200, answer.text[:300]
    assert b"Hong" not in answer.content
    found = dcmread(BytesIO(answer.content)) if accept != INSTANCES else read(answer)[0]
    assert abs(int(found.pixel_array.mean()) - 100) <= 1


def test_bytes_behind_the_last_frame_do_not_leave(origin):
    data_set = image()
    data_set.PixelData += b"Hong^Gildong"
    origin.store(encode(data_set))
    answer = copies(origin, instance_path(data_set), DICOM)
    assert answer.status_code == 406 and "beside the frames" in answer.text


def test_regions_with_text_are_blacked_out(tmp_path):
    rule = "US|ACME||6x4=6x1+0+0 2x9+4+2"
    server, origin = launched(tmp_path, f"deidentification.burned_in_regions={rule}")
    try:
        native = image(frames=2, SOPClassUID=UltrasoundImageStorage, Modality="US", Manufacturer="ACME Ltd")
        compressed = image(frames=2, SOPClassUID=UltrasoundImageStorage, Modality="US", Manufacturer="ACME Ltd")
        compress(compressed)
        other = image(SOPClassUID=UltrasoundImageStorage, Modality="US", Manufacturer="Other")
        origin.store(encode(native), encode(compressed, RLELossless), encode(other))
        expected = samples(2)
        expected[:, 0, :] = 0
        expected[:, 2:, 4:] = 0
        for data_set in [native, compressed]:
            found = dcmread(BytesIO(copies(origin, instance_path(data_set), DICOM).content))
            assert (found.pixel_array == expected).all()
            assert found.BurnedInAnnotation == "NO"
            assert [item.CodeValue for item in found.DeidentificationMethodCodeSequence] == ["113100", "113101"]
        assert copies(origin, instance_path(other), DICOM).status_code == 406
    finally:
        origin.session.close()
        server.stop()
        server.kill()


def test_dcmtk_and_dicom3tools_read_copies(origin, study, tmp_path):
    for index, data_set in enumerate(study):
        file = tmp_path / f"{index}.dcm"
        file.write_bytes(copies(origin, instance_path(data_set), DICOM).content)
        dumped = subprocess.run(["dcmdump", "+L", file], capture_output=True, text=True)
        assert dumped.returncode == 0 and "SECRET" not in dumped.stdout and not dumped.stderr, dumped.stderr
        original = tmp_path / f"{index}-original.dcm"
        original.write_bytes(encode(data_set, data_set.file_meta.TransferSyntaxUID))

        def errors(path):
            checked = subprocess.run(["dciodvfy", "-new", path], capture_output=True, text=True, errors="replace")
            return {line for line in checked.stderr.splitlines() if line.startswith("Error") and "Modules" not in line}

        # What the original lacks, the copy lacks too; it adds no error.
        assert errors(file) <= errors(original), errors(file) - errors(original)


def memory_mib(process, name):
    with open(f"/proc/{process.process.pid}/status") as status:
        return int(re.search(rf"{name}:\s+(\d+)", status.read())[1]) / 1024


def test_a_large_multi_frame_takes_no_memory(tmp_path):
    if os.environ.get("CUSPID_URL"):
        pytest.skip("the memory of a server elsewhere cannot be seen")
    server, origin = launched(tmp_path)
    try:
        frames, side = 150, 1024
        large = image(SOPClassUID=MultiFrameGrayscaleWordSecondaryCaptureImageStorage, BurnedInAnnotation="NO", PatientName="Hong^Gildong")
        large.Rows, large.Columns, large.NumberOfFrames = side, side, frames
        large.PixelData = os.urandom(2 * side * side) * frames
        origin.store(encode(large))
        before = memory_mib(server, "VmHWM")
        url = f"{origin.url}{instance_path(large)}?anonymize=yes"
        total = 0
        with origin.session.get(url, headers={"Accept": DICOM}, stream=True, timeout=300) as answer:
            assert answer.status_code == 200
            for chunk in answer.iter_content(1 << 20):
                total += len(chunk)
                assert b"Hong" not in chunk
        assert total == int(answer.headers["Content-Length"]) > 300 << 20
        assert memory_mib(server, "VmHWM") - before < 100
    finally:
        origin.session.close()
        server.stop()
        server.kill()
