"""Query/Retrieve as an SCP (PS3.4 Annex C): C-FIND, C-GET and C-MOVE, by pynetdicom and dcmtk."""

import random
import subprocess
from io import BytesIO

import pytest
from pydicom import dcmread
from pydicom.dataset import Dataset
from pydicom.uid import (
    CTImageStorage,
    EncapsulatedPDFStorage,
    ExplicitVRLittleEndian,
    ImplicitVRLittleEndian,
    JPEGLSLossless,
    RLELossless,
    generate_uid,
)
from pynetdicom import AE, build_role, evt
from pynetdicom.pdu_primitives import SOPClassExtendedNegotiation
from pynetdicom.presentation import build_context
from pynetdicom.sop_class import (
    PatientRootQueryRetrieveInformationModelFind,
    PatientRootQueryRetrieveInformationModelGet,
    PatientRootQueryRetrieveInformationModelMove,
    PatientStudyOnlyQueryRetrieveInformationModelFind,
    StudyRootQueryRetrieveInformationModelFind,
    StudyRootQueryRetrieveInformationModelGet,
    StudyRootQueryRetrieveInformationModelMove,
)

from build import encode, image, instance, instance_path
from conftest import launched
from cuspid_server import binary, free_port

PATIENT_FIND, STUDY_FIND = PatientRootQueryRetrieveInformationModelFind, StudyRootQueryRetrieveInformationModelFind
STUDY_GET, STUDY_MOVE = StudyRootQueryRetrieveInformationModelGet, StudyRootQueryRetrieveInformationModelMove
SUCCESS, CANCELLED, PENDING, PENDING_UNSUPPORTED = 0x0000, 0xFE00, 0xFF00, 0xFF01
SINGLE = "application/dicom; transfer-syntax=*"
DESTINATION_PORT = free_port()
DEAD_PORT = free_port()
LEVELS = {"STUDY": "/studies", "SERIES": "/series", "IMAGE": "/instances"}


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    everyone = "*=store+find+move+get+commit"
    peers = f"dimse.peers={everyone},DESTINATION@127.0.0.1:{DESTINATION_PORT}=,DEAD@127.0.0.1:{DEAD_PORT}="
    peers += ",STOREONLY=store,FINDONLY=find"
    server, origin = launched(tmp_path_factory.mktemp("server"), "log.filter=warn", peers)
    try:
        yield server, origin
        origin.session.close()
        server.stop()
        assert "panicked" not in server.log()
    finally:
        server.kill()


@pytest.fixture
def associate(origin):
    opened = []

    def associate(*contexts, title="CONFORMANCE", **more):
        client = AE(title)
        client.dimse_timeout = client.network_timeout = client.acse_timeout = 30
        client.requested_contexts = list(contexts)
        association = client.associate(*origin.dimse, ae_title=origin.ae_title, **more)
        assert association.is_established
        opened.append(association)
        return association

    yield associate
    for association in opened:
        association.release()


def identifier(level: str, **keys) -> Dataset:
    data_set = Dataset()
    data_set.QueryRetrieveLevel = level
    for keyword, value in keys.items():
        setattr(data_set, keyword, value)
    return data_set


def find(association, keys: Dataset, model=STUDY_FIND) -> tuple:
    """The matches of a C-FIND, and the statuses of its responses."""
    answers = [(status.Status, found) for status, found in association.send_c_find(keys, model)]
    assert all(found is not None for _, found in answers[:-1]) and answers[-1][1] is None
    return [found for _, found in answers[:-1]], [status for status, _ in answers]


def negotiated(sop_class: str, *options: int) -> list:
    item = SOPClassExtendedNegotiation()
    item.sop_class_uid, item.service_class_application_information = sop_class, bytes(options)
    return [item]


NAMES = ["Doe^Jane", "Doe^John", "Müller^Ändy", "Yamada^Tarou=山田^太郎=やまだ^たろう", "O'Neil^X", "Smith"]


@pytest.fixture(scope="module")
def studies(origin):
    """Studies of several patients with one to three series each, in a fixed variety."""
    chance = random.Random(14)
    stored = []
    for number in range(16):
        patient = chance.randrange(6)
        study = {
            "PatientID": f"QR{patient}",
            "PatientName": NAMES[patient],
            "PatientBirthDate": f"19{60 + patient}0101",
            "PatientSex": "MFO"[patient % 3],
            "StudyInstanceUID": generate_uid(),
            "StudyDate": f"2024{1 + number % 4:02}{1 + number:02}",
            "StudyTime": f"{number:02}1500",
            "AccessionNumber": f"QA{number % 5}",
            "StudyDescription": chance.choice(["Head", "Head and neck", "Knee", ""]),
            "ReferringPhysicianName": chance.choice(["Ref^A", "Ref^B"]),
            "SpecificCharacterSet": "ISO_IR 192",
        }
        for series_number in range(1 + number % 3):
            series = {"SeriesInstanceUID": generate_uid(), "SeriesNumber": series_number + 1, "Modality": chance.choice(["CT", "MR"])}
            for instance_number in range(1 + chance.randrange(2)):
                stored.append(image(**study, **series, InstanceNumber=instance_number + 1, SeriesDescription=f"S{series_number}"))
    origin.store(*(encode(data_set) for data_set in stored))
    return stored


KEYS = {
    "PatientName": ["", "Doe*", "*", "müller*", "*山田*", "D?e^Jane"],
    "PatientID": ["", "QR*", "QR1", "QR?"],
    "PatientBirthDate": ["", "19600101-19620101", "19610101"],
    "PatientSex": ["", "F"],
    "StudyDate": ["", "20240101-20240228", "-20240210", "20240303-", "20240101"],
    "StudyTime": ["", "040000-100000"],
    "AccessionNumber": ["", "QA1", "QA*"],
    "StudyDescription": ["", "Head*", "Knee", "*nec*"],
    "ReferringPhysicianName": ["", "Ref^A"],
    "ModalitiesInStudy": ["", "CT", "CT\\MR"],
    "NumberOfStudyRelatedSeries": [""],
    "NumberOfStudyRelatedInstances": [""],
}
SERIES_KEYS = {"Modality": ["", "CT", "C*"], "SeriesNumber": ["", "1", "2"], "SeriesDescription": ["", "S1"], "NumberOfSeriesRelatedInstances": [""]}
IMAGE_KEYS = {"InstanceNumber": ["", "1"], "SOPClassUID": ["", CTImageStorage], "Rows": [""], "ImageComments": [""]}
OF_LEVEL = {"STUDY": [KEYS], "SERIES": [KEYS, SERIES_KEYS], "IMAGE": [KEYS, SERIES_KEYS, IMAGE_KEYS]}


def values(element: dict | None) -> list:
    return [] if element is None else element.get("Value", [])


@pytest.mark.parametrize("transfer_syntax", [ImplicitVRLittleEndian, ExplicitVRLittleEndian])
@pytest.mark.parametrize("level", list(LEVELS))
def test_matches_are_those_of_qido(origin, associate, studies, level, transfer_syntax):
    # Relational, and dates with times as in QIDO-RS.
    association = associate(build_context(STUDY_FIND, transfer_syntax), ext_neg=negotiated(STUDY_FIND, 1, 1))
    chance = random.Random(f"{level}{transfer_syntax}")
    unique = {"STUDY": ["StudyInstanceUID"], "SERIES": ["StudyInstanceUID", "SeriesInstanceUID"], "IMAGE": ["StudyInstanceUID", "SeriesInstanceUID", "SOPInstanceUID"]}[level]
    found_any = 0
    for _ in range(90):
        possible = {name: options for table in OF_LEVEL[level] for name, options in table.items()}
        chosen = {name: chance.choice(possible[name]) for name in chance.sample(list(possible), chance.randrange(1, 6))}
        if chance.random() < 0.3:
            uids = {str(data_set.StudyInstanceUID) for data_set in chance.sample(studies, 2)}
            chosen["StudyInstanceUID"] = "\\".join(sorted(uids))
        # What other tests store is not of interest.
        chosen.setdefault("PatientID", "QR*")
        keys = identifier(level, SpecificCharacterSet="ISO_IR 192", **{name: "" for name in unique} | chosen)
        matches, statuses = find(association, keys)
        assert statuses[-1] == SUCCESS
        parameters = {name: value.replace("\\", ",") for name, value in chosen.items() if value}
        parameters |= {"includefield": ",".join(chosen), "limit": 500}
        expected = origin.request("GET", LEVELS[level], params=parameters, headers={"Accept": "application/dicom+json"})
        expected = expected.json() if expected.status_code == 200 else []
        assert len(matches) == len(expected), chosen
        for match, result in zip(matches, expected):
            match = match.to_json_dict()
            for tag in [f"{int(keys[name].tag):08X}" for name in [*unique, *chosen]]:
                assert values(match[tag]) == values(result.get(tag)), (chosen, tag)
        found_any += bool(expected)
    assert found_any > 20


def test_each_level_of_patient_root_is_found_under_its_parents(associate, studies):
    association = associate(build_context(PATIENT_FIND))
    patients, _ = find(association, identifier("PATIENT", PatientID="QR*", PatientName="", PatientSex=""), PATIENT_FIND)
    by_patient = {}
    for data_set in studies:
        by_patient.setdefault(data_set.PatientID, set()).add(data_set.StudyInstanceUID)
    assert sorted(match.PatientID for match in patients) == sorted(by_patient)
    for patient in patients:
        assert patient.QueryRetrieveLevel == "PATIENT" and patient.RetrieveAETitle == "CUSPID"
        keys = {"PatientID": patient.PatientID}
        matches, _ = find(association, identifier("STUDY", **keys, StudyInstanceUID=""), PATIENT_FIND)
        assert {match.StudyInstanceUID for match in matches} == by_patient[patient.PatientID]
        keys["StudyInstanceUID"] = matches[0].StudyInstanceUID
        series, _ = find(association, identifier("SERIES", **keys, SeriesInstanceUID="", Modality=""), PATIENT_FIND)
        assert {match.SeriesInstanceUID for match in series} == {
            data_set.SeriesInstanceUID for data_set in studies if data_set.StudyInstanceUID == keys["StudyInstanceUID"]
        }
        keys["SeriesInstanceUID"] = series[0].SeriesInstanceUID
        images, _ = find(association, identifier("IMAGE", **keys, SOPInstanceUID="", InstanceNumber=""), PATIENT_FIND)
        assert {match.SOPInstanceUID for match in images} == {
            data_set.SOPInstanceUID for data_set in studies if data_set.SeriesInstanceUID == keys["SeriesInstanceUID"]
        }


def test_the_retired_model_has_patients_and_studies(associate, studies):
    model = PatientStudyOnlyQueryRetrieveInformationModelFind
    association = associate(build_context(model))
    assert find(association, identifier("PATIENT", PatientID="QR1"), model)[1][-1] == SUCCESS
    assert find(association, identifier("SERIES", PatientID="QR1", StudyInstanceUID="1.2", SeriesInstanceUID=""), model)[1] == [0xA900]


@pytest.mark.parametrize(
    ("level", "keys"),
    [
        ("SERIES", {"SeriesInstanceUID": ""}),
        ("SERIES", {"StudyInstanceUID": "1.2\\1.3", "SeriesInstanceUID": ""}),
        ("IMAGE", {"StudyInstanceUID": "1.2", "SOPInstanceUID": ""}),
        ("PATIENT", {"PatientID": ""}),
        ("", {"StudyInstanceUID": ""}),
        ("STUDY", {"StudyDate": "20240101-yesterday"}),
    ],
)
def test_an_identifier_against_the_rules_does_not_match_the_sop_class(associate, level, keys):
    keys = identifier(level, **{name: value for name, value in keys.items() if name != "StudyDate"})
    if level == "STUDY":
        keys.add_new(0x00080020, "LO", "20240101-yesterday")
    association = associate(build_context(STUDY_FIND, ImplicitVRLittleEndian))
    assert find(association, keys)[1] == [0xA900]
    assert find(association, identifier("STUDY", PatientID="none", StudyInstanceUID=""))[1] == [SUCCESS], "the association goes on"


def test_keys_that_are_not_supported_are_reported(associate, studies):
    association = associate(build_context(STUDY_FIND))
    keys = identifier("STUDY", PatientID="QR1", StudyInstanceUID="", SliceThickness="")
    assert set(find(association, keys)[1]) == {PENDING_UNSUPPORTED, SUCCESS}
    keys = identifier("STUDY", PatientID="QR1", StudyInstanceUID="", StudyID="")
    assert set(find(association, keys)[1]) == {PENDING, SUCCESS}


def test_extended_negotiation_is_answered(associate):
    association = associate(build_context(STUDY_FIND), ext_neg=negotiated(STUDY_FIND, 1, 1, 1, 1, 1, 1, 1))
    (answer,) = [item for item in association.acceptor.user_information if isinstance(item, SOPClassExtendedNegotiation)]
    assert answer.service_class_application_information == bytes([1, 1, 1, 0, 0, 1, 1])


def test_dates_and_times_are_combined_if_that_is_negotiated(origin, associate):
    patient = generate_uid()
    origin.store(encode(instance(PatientID=patient, StudyDate="20240102", StudyTime="080000")))
    keys = identifier("STUDY", PatientID=patient, StudyDate="20240101-20240103", StudyTime="100000-120000", StudyInstanceUID="")
    assert len(find(associate(build_context(STUDY_FIND)), keys)[0]) == 0, "8 is not between 10 and 12"
    association = associate(build_context(STUDY_FIND), ext_neg=negotiated(STUDY_FIND, 0, 1))
    assert len(find(association, keys)[0]) == 1, "between the 1st at 10 and the 3rd at 12"


def test_names_are_matched_fuzzily_if_that_is_negotiated(associate, studies):
    keys = identifier("STUDY", PatientID="QR*", PatientName="Jane Doe", StudyInstanceUID="")
    exact, _ = find(associate(build_context(STUDY_FIND)), keys)
    fuzzy, _ = find(associate(build_context(STUDY_FIND), ext_neg=negotiated(STUDY_FIND, 0, 0, 1)), keys)
    jane = {data_set.StudyInstanceUID for data_set in studies if data_set.PatientName == "Doe^Jane"}
    assert not exact and jane <= {match.StudyInstanceUID for match in fuzzy}


@pytest.mark.parametrize(
    ("name", "asked", "answered"),
    [
        ("Müller^Ändy", None, "ISO_IR 192"),
        ("Müller^Ändy", "ISO_IR 100", "ISO_IR 100"),
        ("Yamada^Tarou=山田^太郎=やまだ^たろう", "ISO_IR 100", "ISO_IR 192"),
        ("Yamada^Tarou=山田^太郎=やまだ^たろう", ["", "ISO 2022 IR 87"], ["", "ISO 2022 IR 87"]),
        ("Doe^Jane", "ISO_IR 192", None),
    ],
)
def test_text_is_in_the_character_set_of_the_peer(origin, associate, name, asked, answered):
    patient = generate_uid()
    origin.store(encode(instance(PatientID=patient, PatientName=name, SpecificCharacterSet="ISO_IR 192")))
    keys = identifier("STUDY", PatientID=patient, PatientName="", StudyInstanceUID="")
    if asked:
        keys.SpecificCharacterSet = asked
    (match,), _ = find(associate(build_context(STUDY_FIND)), keys)
    assert match.PatientName == name
    assert match.get("SpecificCharacterSet") == answered


def test_a_sequence_is_matched_and_returned_by_the_attributes_of_its_item(origin, associate):
    code = Dataset()
    code.CodeValue, code.CodingSchemeDesignator, code.CodeMeaning = "QR1", "99TEST", "Meaning"
    patient = generate_uid()
    origin.store(encode(instance(PatientID=patient, ProcedureCodeSequence=[code])))
    for wanted, count in [("QR1", 1), ("QR2", 0)]:
        key = Dataset()
        key.CodeValue, key.CodeMeaning = wanted, ""
        matches, _ = find(associate(build_context(STUDY_FIND)), identifier("STUDY", PatientID=patient, ProcedureCodeSequence=[key]))
        assert len(matches) == count
        for match in matches:
            (item,) = match.ProcedureCodeSequence
            assert (item.CodeValue, item.CodeMeaning) == ("QR1", "Meaning") and "CodingSchemeDesignator" not in item


def test_titles_have_their_operations(associate):
    storer = associate(build_context(STUDY_FIND), build_context(CTImageStorage), title="STOREONLY")
    assert [context.abstract_syntax for context in storer.accepted_contexts] == [CTImageStorage]
    finder = associate(build_context(STUDY_FIND), build_context(CTImageStorage), build_context(STUDY_MOVE), title="FINDONLY")
    assert [context.abstract_syntax for context in finder.accepted_contexts] == [STUDY_FIND]


def get(association, keys: Dataset, received: list, model=STUDY_GET) -> tuple:
    """The last status of a C-GET, and its data set."""
    received.clear()
    *_, (status, data_set) = association.send_c_get(keys, model)
    return status, data_set


def getter(associate, *syntaxes_of_class, model=STUDY_GET, status=SUCCESS) -> tuple:
    """An association that takes instances, and the list of those that it got."""
    received = []

    def keep(event):
        event.dataset.file_meta = event.file_meta
        received.append(event.dataset)
        return status

    contexts = [build_context(sop_class, syntaxes) for sop_class, syntaxes in syntaxes_of_class]
    roles = [build_role(sop_class, scp_role=True) for sop_class in {sop_class for sop_class, _ in syntaxes_of_class}]
    association = associate(build_context(model), *contexts, ext_neg=roles, evt_handlers=[(evt.EVT_C_STORE, keep)])
    return association, received


@pytest.mark.parametrize("transfer_syntax", [ExplicitVRLittleEndian, ImplicitVRLittleEndian])
def test_get_gives_a_study_with_its_pixels(origin, associate, transfer_syntax):
    study = generate_uid()
    stored = [image(3, 40, 50, StudyInstanceUID=study, PatientComments="x" * number) for number in range(5)]
    code = Dataset()
    code.CodeValue = "1"
    stored[0].ProcedureCodeSequence = [code, Dataset()]
    origin.store(*(encode(data_set) for data_set in stored))
    association, received = getter(associate, (CTImageStorage, transfer_syntax))
    status, data_set = get(association, identifier("STUDY", StudyInstanceUID=study), received)
    assert status.Status == SUCCESS and data_set is None
    assert (status.NumberOfCompletedSuboperations, status.NumberOfFailedSuboperations, status.NumberOfWarningSuboperations) == (5, 0, 0)
    by_uid = {data_set.SOPInstanceUID: data_set for data_set in received}
    for expected in stored:
        assert by_uid[expected.SOPInstanceUID] == expected
        assert by_uid[expected.SOPInstanceUID].file_meta.TransferSyntaxUID == transfer_syntax


def test_get_of_each_level_gives_what_the_keys_select(origin, associate):
    first = image()
    second = image(StudyInstanceUID=first.StudyInstanceUID, SeriesInstanceUID=first.SeriesInstanceUID)
    third = image(StudyInstanceUID=first.StudyInstanceUID)
    origin.store(*(encode(data_set) for data_set in [first, second, third]))
    association, received = getter(associate, (CTImageStorage, ExplicitVRLittleEndian))
    study, series = {"StudyInstanceUID": first.StudyInstanceUID}, {"SeriesInstanceUID": first.SeriesInstanceUID}
    for keys, expected in [
        (identifier("STUDY", **study), [first, second, third]),
        (identifier("SERIES", **study, **series), [first, second]),
        (identifier("SERIES", **study, SeriesInstanceUID=[first.SeriesInstanceUID, third.SeriesInstanceUID]), [first, second, third]),
        (identifier("IMAGE", **study, **series, SOPInstanceUID=second.SOPInstanceUID), [second]),
        (identifier("STUDY", StudyInstanceUID=generate_uid()), []),
    ]:
        assert get(association, keys, received)[0].Status == SUCCESS
        assert {data_set.SOPInstanceUID for data_set in received} == {data_set.SOPInstanceUID for data_set in expected}
    for keys in [identifier("IMAGE", SOPInstanceUID=second.SOPInstanceUID), identifier("STUDY", PatientID="1"), identifier("STUDY", StudyInstanceUID="*")]:
        assert get(association, keys, received)[0].Status == 0xA900


def test_get_of_an_instance_by_its_uid_alone_if_that_is_negotiated(origin, associate):
    stored = image()
    origin.store(encode(stored))
    received = []

    def keep(event):
        received.append(event.request.AffectedSOPInstanceUID)
        return SUCCESS

    items = [build_role(CTImageStorage, scp_role=True), *negotiated(STUDY_GET, 1)]
    association = associate(build_context(STUDY_GET), build_context(CTImageStorage), ext_neg=items, evt_handlers=[(evt.EVT_C_STORE, keep)])
    for keys in [identifier("IMAGE", SOPInstanceUID=stored.SOPInstanceUID), identifier("SERIES", SeriesInstanceUID=stored.SeriesInstanceUID)]:
        assert get(association, keys, received)[0].Status == SUCCESS
        assert received == [stored.SOPInstanceUID]


def test_a_patient_is_got_by_an_exact_id(origin, associate):
    model = PatientRootQueryRetrieveInformationModelGet
    patient = generate_uid()
    stored = [image(PatientID=patient), image(PatientID=patient), image(PatientID=f"{patient}.1")]
    origin.store(*(encode(data_set) for data_set in stored))
    association, received = getter(associate, (CTImageStorage, ExplicitVRLittleEndian), model=model)
    assert get(association, identifier("PATIENT", PatientID=patient), received, model)[0].Status == SUCCESS
    assert len(received) == 2
    assert get(association, identifier("PATIENT", PatientID=f"{patient[:-1]}*"), received, model)[0].Status == 0xA900


def by_dcmtk(tool: str, file: bytes, directory) -> bytes:
    """A file after dcmtk has encoded or decoded it."""
    source, target = directory / "source.dcm", directory / "target.dcm"
    source.write_bytes(file)
    subprocess.run([tool, str(source), str(target)], check=True, capture_output=True, timeout=60)
    return target.read_bytes()


@pytest.mark.parametrize(("compressed", "tool"), [(RLELossless, "dcmcrle"), (JPEGLSLossless, "dcmcjpls")])
def test_a_compressed_instance_is_sent_as_it_is_stored_or_decoded(origin, associate, tmp_path, compressed, tool):
    plain = image(2, 16, 16)
    file = by_dcmtk(tool, encode(plain), tmp_path)
    origin.store(file)
    stored = dcmread(BytesIO(file))
    keys = identifier("STUDY", StudyInstanceUID=plain.StudyInstanceUID)
    association, received = getter(associate, (CTImageStorage, compressed), (CTImageStorage, ExplicitVRLittleEndian))
    assert get(association, keys, received)[0].Status == SUCCESS
    assert received[0].file_meta.TransferSyntaxUID == compressed and received[0].PixelData == stored.PixelData
    for transfer_syntax in [ExplicitVRLittleEndian, ImplicitVRLittleEndian]:
        association, received = getter(associate, (CTImageStorage, transfer_syntax))
        assert get(association, keys, received)[0].Status == SUCCESS
        assert received[0].file_meta.TransferSyntaxUID == transfer_syntax and received[0].PixelData == plain.PixelData


def test_a_native_instance_is_encoded_for_a_peer_that_takes_nothing_else(origin, associate, tmp_path):
    stored = image(1, 16, 16)
    origin.store(encode(stored))
    association, received = getter(associate, (CTImageStorage, JPEGLSLossless))
    assert get(association, identifier("STUDY", StudyInstanceUID=stored.StudyInstanceUID), received)[0].Status == SUCCESS
    assert received[0].file_meta.TransferSyntaxUID == JPEGLSLossless
    decoded = dcmread(BytesIO(by_dcmtk("dcmdjpls", encode(received[0], JPEGLSLossless), tmp_path)))
    assert decoded.PixelData == stored.PixelData


def test_what_the_peer_does_not_take_is_counted_and_named(origin, associate):
    study = generate_uid()
    pdf = instance(StudyInstanceUID=study, SOPClassUID=EncapsulatedPDFStorage, MIMETypeOfEncapsulatedDocument="application/pdf")
    pdf.EncapsulatedDocument = b"%PDF-1.4 x"
    origin.store(encode(image(StudyInstanceUID=study)), encode(pdf))
    association, received = getter(associate, (CTImageStorage, ExplicitVRLittleEndian))
    status, data_set = get(association, identifier("STUDY", StudyInstanceUID=study), received)
    assert status.Status == 0xB000
    assert (status.NumberOfCompletedSuboperations, status.NumberOfFailedSuboperations) == (1, 1)
    assert data_set.FailedSOPInstanceUIDList == pdf.SOPInstanceUID
    status, _ = get(association, identifier("SERIES", StudyInstanceUID=study, SeriesInstanceUID=pdf.SeriesInstanceUID), received)
    assert status.Status == 0xA702


@pytest.mark.parametrize(("answer", "final", "counts"), [(0xB000, 0xB000, (0, 0, 1)), (0xA700, 0xA702, (0, 1, 0))])
def test_the_status_of_the_peer_counts(origin, associate, answer, final, counts):
    stored = image()
    origin.store(encode(stored))
    association, received = getter(associate, (CTImageStorage, ExplicitVRLittleEndian), status=answer)
    status, _ = get(association, identifier("STUDY", StudyInstanceUID=stored.StudyInstanceUID), received)
    assert status.Status == final
    assert (status.NumberOfCompletedSuboperations, status.NumberOfFailedSuboperations, status.NumberOfWarningSuboperations) == counts


def test_a_get_that_is_cancelled_ends(origin, associate):
    study = generate_uid()
    origin.store(*(encode(image(StudyInstanceUID=study)) for _ in range(20)))
    received = []

    def keep(event):
        received.append(event.request.AffectedSOPInstanceUID)
        event.assoc.send_c_cancel(1, query_model=STUDY_GET)
        return SUCCESS

    items = [build_role(CTImageStorage, scp_role=True)]
    association = associate(build_context(STUDY_GET), build_context(CTImageStorage), ext_neg=items, evt_handlers=[(evt.EVT_C_STORE, keep)])
    *_, (status, _) = association.send_c_get(identifier("STUDY", StudyInstanceUID=study), STUDY_GET, msg_id=1)
    assert status.Status == CANCELLED
    assert 1 <= len(received) < 20
    assert status.NumberOfRemainingSuboperations == 20 - len(received) == 20 - status.NumberOfCompletedSuboperations


@pytest.fixture
def destination():
    """A storage SCP at the address of the AE title DESTINATION; the data sets that it got, and its associations."""
    received, associations = [], []

    def keep(event):
        event.dataset.file_meta = event.file_meta
        received.append((event.request, event.dataset))
        return SUCCESS

    ae = AE("DESTINATION")
    ae.add_supported_context(CTImageStorage, [ExplicitVRLittleEndian, ImplicitVRLittleEndian])
    ae.add_supported_context(CTImageStorage, JPEGLSLossless)
    handlers = [(evt.EVT_C_STORE, keep), (evt.EVT_ESTABLISHED, lambda event: associations.append(event.assoc))]
    server = ae.start_server(("127.0.0.1", DESTINATION_PORT), block=False, evt_handlers=handlers)
    yield received, associations
    server.shutdown()


def move(association, keys: Dataset, destination: str, model=STUDY_MOVE):
    *_, (status, data_set) = association.send_c_move(keys, destination, model, msg_id=7)
    return status, data_set


def test_move_sends_a_study_on_one_association(origin, associate, destination):
    received, associations = destination
    study = generate_uid()
    stored = [image(2, 30, 40, StudyInstanceUID=study) for _ in range(6)]
    origin.store(*(encode(data_set) for data_set in stored))
    association = associate(build_context(STUDY_MOVE))
    status, _ = move(association, identifier("STUDY", StudyInstanceUID=study), "DESTINATION")
    assert status.Status == SUCCESS
    assert (status.NumberOfCompletedSuboperations, status.NumberOfFailedSuboperations) == (6, 0)
    by_uid = {data_set.SOPInstanceUID: data_set for _, data_set in received}
    assert all(by_uid[data_set.SOPInstanceUID] == data_set for data_set in stored)
    assert len(associations) == 1 and associations[0].requestor.ae_title == "CUSPID"
    request, _ = received[0]
    assert (request.MoveOriginatorApplicationEntityTitle, request.MoveOriginatorMessageID) == ("CONFORMANCE", 7)


def test_a_move_whose_destination_aborts_names_what_was_not_sent(origin, associate):
    received = []

    def keep(event):
        received.append(event.request.AffectedSOPInstanceUID)
        if len(received) == 2:
            event.assoc.abort()
        return SUCCESS

    ae = AE("DESTINATION")
    ae.add_supported_context(CTImageStorage, [ExplicitVRLittleEndian, ImplicitVRLittleEndian])
    server = ae.start_server(("127.0.0.1", DESTINATION_PORT), block=False, evt_handlers=[(evt.EVT_C_STORE, keep)])
    try:
        study = generate_uid()
        stored = [image(StudyInstanceUID=study) for _ in range(20)]
        origin.store(*(encode(data_set) for data_set in stored))
        status, data_set = move(associate(build_context(STUDY_MOVE)), identifier("STUDY", StudyInstanceUID=study), "DESTINATION")
    finally:
        server.shutdown()
    assert status.Status == 0xB000
    assert (status.NumberOfCompletedSuboperations, status.NumberOfFailedSuboperations) == (1, 19)
    assert set(data_set.FailedSOPInstanceUIDList) == {data_set.SOPInstanceUID for data_set in stored} - {received[0]}


def test_moves_in_patient_root_and_of_nothing(origin, associate, destination):
    received, _ = destination
    stored = image(PatientID=generate_uid())
    origin.store(encode(stored))
    model = PatientRootQueryRetrieveInformationModelMove
    association = associate(build_context(model))
    status, _ = move(association, identifier("PATIENT", PatientID=stored.PatientID), "DESTINATION", model)
    assert status.Status == SUCCESS and len(received) == 1
    status, _ = move(association, identifier("PATIENT", PatientID="nobody"), "DESTINATION", model)
    assert status.Status == SUCCESS and status.NumberOfCompletedSuboperations == 0 and len(received) == 1


@pytest.mark.parametrize(("title", "expected"), [("STRANGER", 0xA801), ("FINDONLY", 0xA801), ("DEAD", 0xA702)])
def test_a_move_to_no_one_fails(origin, associate, title, expected):
    stored = image()
    origin.store(encode(stored))
    association = associate(build_context(STUDY_MOVE))
    keys = identifier("STUDY", StudyInstanceUID=stored.StudyInstanceUID)
    assert move(association, keys, title)[0].Status == expected
    assert move(association, identifier("STUDY", StudyInstanceUID=generate_uid()), "DESTINATION")[0].Status == SUCCESS


def dcmtk(*command) -> str:
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False, env={"TCP_NODELAY": "1", "PATH": "/usr/bin:/bin"})
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout + done.stderr


def test_findscu_finds(origin, studies):
    host, port = origin.dimse
    for option, patient in [("-S", "QR1"), ("-P", "QR1"), ("-O", "QR1")]:
        out = dcmtk("findscu", "-v", option, host, str(port), "-aec", origin.ae_title, "-k", "QueryRetrieveLevel=STUDY", "-k", f"PatientID={patient}", "-k", "StudyInstanceUID")
        expected = {data_set.StudyInstanceUID for data_set in studies if data_set.PatientID == patient}
        assert all(uid in out for uid in expected)
        assert out.count("Find Response:") == len(expected)


def test_getscu_gets_and_movescu_moves(origin, studies, tmp_path):
    host, port = origin.dimse
    study = studies[0].StudyInstanceUID
    expected = {data_set.SOPInstanceUID for data_set in studies if data_set.StudyInstanceUID == study}
    keys = ["-aec", origin.ae_title, "-k", "QueryRetrieveLevel=STUDY", "-k", f"StudyInstanceUID={study}"]
    (got := tmp_path / "got").mkdir()
    dcmtk("getscu", "-S", "-od", str(got), host, str(port), *keys)
    assert {dcmread(path).SOPInstanceUID for path in got.iterdir()} == expected
    (moved := tmp_path / "moved").mkdir()
    storescp = subprocess.Popen(["storescp", "-aet", "DESTINATION", "-od", str(moved), str(DESTINATION_PORT)], env={"TCP_NODELAY": "1", "PATH": "/usr/bin:/bin"})
    try:
        for _ in range(50):
            done = subprocess.run(["echoscu", "127.0.0.1", str(DESTINATION_PORT)], capture_output=True, check=False)
            if done.returncode == 0:
                break
        dcmtk("movescu", "-S", "-aem", "DESTINATION", host, str(port), *keys)
    finally:
        storescp.terminate()
        storescp.wait(10)
    assert {dcmread(path).SOPInstanceUID for path in moved.iterdir()} == expected


def test_what_was_got_is_what_wado_rs_gives(origin, associate):
    stored = image()
    origin.store(encode(stored))
    association, received = getter(associate, (CTImageStorage, ExplicitVRLittleEndian))
    get(association, identifier("STUDY", StudyInstanceUID=stored.StudyInstanceUID), received)
    assert dcmread(BytesIO(origin.get(instance_path(stored), SINGLE).content)) == received[0]


def test_the_command_line_verifies_peers(origin):
    host, port = origin.dimse
    peers = f"dimse.peers={origin.ae_title}@{host}:{port}=find,DEAD@127.0.0.1:{DEAD_PORT}=,*=store"
    run = lambda *arguments: subprocess.run([binary(), "ae", *arguments, "--set", peers, "--set", "log.filter=off"], capture_output=True, text=True, timeout=60, check=False)
    listed = run("list")
    assert listed.returncode == 0 and [line.split()[0] for line in listed.stdout.splitlines()] == [origin.ae_title, "DEAD", "*"]
    echoed = run("echo", origin.ae_title)
    assert echoed.returncode == 0 and echoed.stdout == f"{origin.ae_title} at {host}:{port}: ok\n"
    assert run("echo").returncode != 0, "DEAD is dead"
    assert run("echo", "STRANGER").returncode != 0
