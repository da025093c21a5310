"""Retrieve Transaction (PS3.18 §10.4) as a zip file: the standard leaves this media type open, several origin servers offer it.

A server that does not offer `application/zip` must answer 406. The zip file is read by Python's zipfile and Info-ZIP's unzip, and as a
file-set (PS3.10 §8) by pydicom, dcmtk and dicom3tools.
"""

import subprocess
import zipfile
from io import BytesIO

import pytest
from pydicom import dcmread
from pydicom.dataset import Dataset
from pydicom.fileset import FileSet
from pydicom.uid import (
    BasicTextSRStorage,
    CTImageStorage,
    EncapsulatedPDFStorage,
    ExplicitVRLittleEndian,
    GrayscaleSoftcopyPresentationStateStorage,
    ImplicitVRLittleEndian,
    MediaStorageDirectoryStorage,
    RLELossless,
    generate_uid,
)

from build import encode, image, instance, instance_path, series_path, study_path

ZIP = "application/zip"


def code(value, meaning):
    item = Dataset()
    item.CodeValue, item.CodingSchemeDesignator, item.CodeMeaning = value, "DCM", meaning
    return item


def report(**more):
    modifier = Dataset()
    modifier.RelationshipType, modifier.ValueType = "HAS CONCEPT MOD", "CODE"
    modifier.ConceptNameCodeSequence = [code("121049", "Language of Content Item and Descendants")]
    modifier.ConceptCodeSequence = [code("eng", "English")]
    text = Dataset()
    text.RelationshipType, text.ValueType, text.TextValue = "CONTAINS", "TEXT", "All is well."
    text.ConceptNameCodeSequence = [code("121071", "Finding")]
    return instance(
        SOPClassUID=BasicTextSRStorage,
        Modality="SR",
        CompletionFlag="COMPLETE",
        VerificationFlag="UNVERIFIED",
        ContentDate="20240115",
        ContentTime="102000",
        ValueType="CONTAINER",
        ContinuityOfContent="SEPARATE",
        ConceptNameCodeSequence=[code("126000", "Imaging Measurement Report")],
        ContentSequence=[modifier, text],
        **more,
    )


def presentation(**more):
    shown, series = Dataset(), Dataset()
    shown.ReferencedSOPClassUID, shown.ReferencedSOPInstanceUID = CTImageStorage, generate_uid()
    series.SeriesInstanceUID, series.ReferencedImageSequence = generate_uid(), [shown]
    return instance(
        ReferencedSeriesSequence=[series],
        SOPClassUID=GrayscaleSoftcopyPresentationStateStorage,
        Modality="PR",
        ContentLabel="WINDOW",
        ContentDescription="as the radiologist saw it",
        ContentCreatorName="Roe^Rita",
        PresentationCreationDate="20240115",
        PresentationCreationTime="103000",
        **more,
    )


def document(**more):
    return instance(
        SOPClassUID=EncapsulatedPDFStorage,
        Modality="DOC",
        DocumentTitle="Report",
        MIMETypeOfEncapsulatedDocument="application/pdf",
        EncapsulatedDocument=b"%PDF-1.4 ",
        **more,
    )


@pytest.fixture(scope="module")
def study(origin):
    """Files by SOP Instance UID: a series of twelve images, numbered against the order of storing; a report, a document, a presentation
    state; an image in another transfer syntax."""
    first = image()
    common = {"StudyInstanceUID": first.StudyInstanceUID, "StudyID": "7", "PatientName": "Müller^Jörg", "SpecificCharacterSet": "ISO_IR 192"}
    series = {"SeriesInstanceUID": first.SeriesInstanceUID, "SeriesNumber": 1}
    data_sets = [image(**common, **series, InstanceNumber=number) for number in range(12, 0, -1)]
    data_sets += [make(**common, InstanceNumber=1, SeriesNumber=number) for number, make in enumerate([report, document, presentation], 2)]
    files = {data_set.SOPInstanceUID: encode(data_set) for data_set in data_sets}
    data_sets.append(image(**common, SeriesNumber=5, InstanceNumber=1))
    files[data_sets[-1].SOPInstanceUID] = encode(data_sets[-1], ImplicitVRLittleEndian)
    origin.store(*files.values())
    answer = origin.get(instance_path(data_sets[0]), ZIP)
    if answer.status_code == 406:
        pytest.skip("application/zip is not among the media types")
    return data_sets, files


def opened(answer):
    assert answer.status_code == 200, answer.text[:300]
    assert answer.headers["Content-Type"].split(";")[0] == ZIP
    if "Content-Length" in answer.headers:
        assert int(answer.headers["Content-Length"]) == len(answer.content)
    archive = zipfile.ZipFile(BytesIO(answer.content))
    assert archive.testzip() is None
    return archive


def contents(archive):
    """The DICOM files by SOP Instance UID, without a directory."""
    files = [archive.read(entry) for entry in archive.infolist() if not entry.is_dir()]
    read = {file: dcmread(BytesIO(file), specific_tags=["SOPInstanceUID"]) for file in files}
    return {
        str(data_set.SOPInstanceUID): file
        for file, data_set in read.items()
        if data_set.file_meta.MediaStorageSOPClassUID != MediaStorageDirectoryStorage
    }


def test_each_level_gives_its_instances_byte_for_byte(origin, study):
    data_sets, files = study
    for path, expected in [
        (study_path(data_sets[0]), files),
        (series_path(data_sets[0]), {d.SOPInstanceUID: files[d.SOPInstanceUID] for d in data_sets[:12]}),
        (instance_path(data_sets[13]), {data_sets[13].SOPInstanceUID: files[data_sets[13].SOPInstanceUID]}),
    ]:
        assert contents(opened(origin.get(path, ZIP))) == expected, path


def test_names_are_safe_on_any_system_and_unique(origin, study):
    names = opened(origin.get(study_path(study[0][0]), ZIP)).namelist()
    assert len({name.lower() for name in names}) == len(names)
    for name in names:
        assert name.isascii() and not name.startswith(("/", "\\")) and "\\" not in name and ":" not in name
        assert all(part not in ("", ".", "..") for part in name.split("/"))


def test_what_is_not_stored_is_404(origin, study):
    for level in [study_path, series_path, instance_path]:
        assert origin.get(level(image()), ZIP).status_code == 404


def test_the_accept_query_parameter_asks_for_it(origin, study):
    answer = origin.get(f"{study_path(study[0][0])}?accept=application%2Fzip", "*/*")
    assert contents(opened(answer)) == study[1]


def test_multipart_is_given_to_clients_that_prefer_it(origin, study):
    accept = 'application/zip;q=0.1, multipart/related; type="application/dicom"; transfer-syntax=*'
    assert origin.get(study_path(study[0][0]), accept).headers["Content-Type"].startswith("multipart/related")


def test_a_transfer_syntax_that_is_named_is_given_or_refused(origin, study):
    answer = origin.get(study_path(study[0][0]), f"{ZIP}; transfer-syntax={RLELossless}")
    if answer.status_code == 200:
        for file in contents(opened(answer)).values():
            data_set = dcmread(BytesIO(file))
            assert "PixelData" not in data_set or data_set.file_meta.TransferSyntaxUID == RLELossless
    else:
        assert answer.status_code == 406
    answer = origin.get(series_path(study[0][0]), f"{ZIP}; transfer-syntax={ExplicitVRLittleEndian}")
    assert len(contents(opened(answer))) == 12


def test_unzip_finds_no_fault(origin, study, tmp_path):
    for query in ["", "?dicomdir=true"]:
        (tmp_path / "study.zip").write_bytes(origin.get(f"{study_path(study[0][0])}{query}", ZIP).content)
        done = subprocess.run(["unzip", "-tqq", tmp_path / "study.zip"], capture_output=True, text=True)
        assert (done.returncode, done.stdout + done.stderr) == (0, "")


def test_a_part_of_a_series_goes_by_position(origin, study):
    data_sets, files = study
    for part, numbers in [("3-5", [3, 4, 5]), ("12", [12]), ("11-", [11, 12])]:
        answer = origin.get(f"{series_path(data_sets[0])}?instances={part}", ZIP)
        found = contents(opened(answer))
        if len(found) == 12:
            pytest.skip("the parameter is not known")
        assert found == {d.SOPInstanceUID: files[d.SOPInstanceUID] for d in data_sets[:12] if d.InstanceNumber in numbers}


@pytest.fixture(scope="module")
def file_set(origin, study, tmp_path_factory):
    """The folder of a retrieved file-set."""
    answer = origin.get(f"{study_path(study[0][0])}?dicomdir=true", ZIP)
    archive = opened(answer)
    if "DICOMDIR" not in archive.namelist():
        pytest.skip("the parameter is not known")
    folder = tmp_path_factory.mktemp("media")
    archive.extractall(folder)
    return folder


def test_a_file_set_is_read_by_pydicom(study, file_set):
    data_sets, files = study
    found = FileSet(file_set / "DICOMDIR")
    assert found.ID == "CUSPID" or found.ID
    assert found.find_values("PatientName") == ["Müller^Jörg"]
    assert found.find_values("StudyInstanceUID") == [data_sets[0].StudyInstanceUID]
    assert len(found) == len(files)
    for listed in found:
        path = str(listed.path)
        with open(path, "rb") as file:
            assert file.read() == files[listed.SOPInstanceUID]
        loaded = dcmread(path)
        assert listed.ReferencedTransferSyntaxUIDInFile == loaded.file_meta.TransferSyntaxUID
        assert listed.ReferencedSOPClassUIDInFile == loaded.SOPClassUID
        for keyword in ["SeriesInstanceUID", "InstanceNumber", "Modality", "StudyDate", "PatientID"]:
            assert listed[keyword].value == loaded[keyword].value, keyword
    kinds = sorted(record.DirectoryRecordType for record in dcmread(file_set / "DICOMDIR").DirectoryRecordSequence)
    expected = ["IMAGE"] * 13 + ["PATIENT", "STUDY", "SR DOCUMENT", "ENCAP DOC", "PRESENTATION"] + ["SERIES"] * 5
    assert kinds == sorted(expected)


def test_records_have_the_keys_of_their_kind(study, file_set):
    """PS3.3 §F.5: type 1 attributes have values."""
    records = {record.DirectoryRecordType: record for record in dcmread(file_set / "DICOMDIR").DirectoryRecordSequence}
    document = records["SR DOCUMENT"]
    assert (document.CompletionFlag, document.ContentDate) == ("COMPLETE", "20240115")
    assert document.ConceptNameCodeSequence[0].CodeValue == "126000"
    assert [item.RelationshipType for item in document.ContentSequence] == ["HAS CONCEPT MOD"]
    assert (records["PRESENTATION"].ContentLabel, str(records["PRESENTATION"].ContentCreatorName)) == ("WINDOW", "Roe^Rita")
    assert records["ENCAP DOC"].MIMETypeOfEncapsulatedDocument == "application/pdf"
    assert (records["STUDY"].StudyID, records["STUDY"].AccessionNumber) == ("7", "A1")
    assert records["PATIENT"].SpecificCharacterSet == "ISO_IR 192"


def test_file_ids_are_those_of_media(file_set):
    """PS3.10 §8.2: at most eight components, each of one to eight of A-Z, 0-9 and underscore."""
    allowed = set("ABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_")
    for path in file_set.rglob("*"):
        parts = path.relative_to(file_set).parts
        assert len(parts) <= 8 and all(1 <= len(part) <= 8 and set(part) <= allowed for part in parts), path


def test_the_directory_is_valid(file_set):
    """dciodvfy validates the Basic Directory IOD."""
    done = subprocess.run(["dciodvfy", "DICOMDIR"], cwd=file_set, capture_output=True, text=True)
    assert "BasicDirectory" in done.stderr
    # dciodvfy requires Blending Sequence in every presentation state; PS3.3 §F.5.24 only in those that blend.
    faults = [line for line in done.stderr.splitlines() if line.startswith("Error") and "BlendingSequence" not in line]
    assert faults == []


def test_the_directory_survives_dcmtk_and_dicom3tools(file_set):
    """dcmtk updates the directory, for which all offsets must be right; dicom3tools walks it."""
    # Not the image in Implicit VR, which the media profile does not allow.
    files = sorted(str(path.relative_to(file_set)) for path in file_set.glob("DICOM/SE00000[1-4]/*"))
    command = ["dcmmkdir", "+U", "-Pfl", "-W", "-nb", "+D", "DICOMDIR", *files]
    done = subprocess.run(command, cwd=file_set, capture_output=True, text=True)
    assert done.returncode == 0 and "E: " not in done.stderr, done.stderr[:2000]
    done = subprocess.run(["dcdirdmp", "DICOMDIR"], cwd=file_set, capture_output=True, text=True)
    assert done.returncode == 0 and "rror" not in done.stderr, done.stderr[:2000]
    assert (done.stdout + done.stderr).count("IMAGE") >= 13
