//! The tags of attributes that the program names, under the keywords of the standard (PS3.6 §6, PS3.7 §E).

use dicom_dictionary_std::tags;

use crate::dicom::attributes::Tag;

/// CommandGroupLength (0000,0000).
pub const COMMAND_GROUP_LENGTH: Tag = of(tags::COMMAND_GROUP_LENGTH);
/// AffectedSOPClassUID (0000,0002).
pub const AFFECTED_SOP_CLASS_UID: Tag = of(tags::AFFECTED_SOP_CLASS_UID);
/// RequestedSOPClassUID (0000,0003).
pub const REQUESTED_SOP_CLASS_UID: Tag = of(tags::REQUESTED_SOP_CLASS_UID);
/// CommandField (0000,0100).
pub const COMMAND_FIELD: Tag = of(tags::COMMAND_FIELD);
/// MessageID (0000,0110).
pub const MESSAGE_ID: Tag = of(tags::MESSAGE_ID);
/// MessageIDBeingRespondedTo (0000,0120).
pub const MESSAGE_ID_BEING_RESPONDED_TO: Tag = of(tags::MESSAGE_ID_BEING_RESPONDED_TO);
/// MoveDestination (0000,0600).
pub const MOVE_DESTINATION: Tag = of(tags::MOVE_DESTINATION);
/// Priority (0000,0700).
pub const PRIORITY: Tag = of(tags::PRIORITY);
/// CommandDataSetType (0000,0800).
pub const COMMAND_DATA_SET_TYPE: Tag = of(tags::COMMAND_DATA_SET_TYPE);
/// Status (0000,0900).
pub const STATUS: Tag = of(tags::STATUS);
/// OffendingElement (0000,0901).
pub const OFFENDING_ELEMENT: Tag = of(tags::OFFENDING_ELEMENT);
/// ErrorComment (0000,0902).
pub const ERROR_COMMENT: Tag = of(tags::ERROR_COMMENT);
/// AffectedSOPInstanceUID (0000,1000).
pub const AFFECTED_SOP_INSTANCE_UID: Tag = of(tags::AFFECTED_SOP_INSTANCE_UID);
/// RequestedSOPInstanceUID (0000,1001).
pub const REQUESTED_SOP_INSTANCE_UID: Tag = of(tags::REQUESTED_SOP_INSTANCE_UID);
/// EventTypeID (0000,1002).
pub const EVENT_TYPE_ID: Tag = of(tags::EVENT_TYPE_ID);
/// ActionTypeID (0000,1008).
pub const ACTION_TYPE_ID: Tag = of(tags::ACTION_TYPE_ID);
/// NumberOfRemainingSuboperations (0000,1020).
pub const NUMBER_OF_REMAINING_SUBOPERATIONS: Tag = of(tags::NUMBER_OF_REMAINING_SUBOPERATIONS);
/// NumberOfCompletedSuboperations (0000,1021).
pub const NUMBER_OF_COMPLETED_SUBOPERATIONS: Tag = of(tags::NUMBER_OF_COMPLETED_SUBOPERATIONS);
/// NumberOfFailedSuboperations (0000,1022).
pub const NUMBER_OF_FAILED_SUBOPERATIONS: Tag = of(tags::NUMBER_OF_FAILED_SUBOPERATIONS);
/// NumberOfWarningSuboperations (0000,1023).
pub const NUMBER_OF_WARNING_SUBOPERATIONS: Tag = of(tags::NUMBER_OF_WARNING_SUBOPERATIONS);
/// MoveOriginatorApplicationEntityTitle (0000,1030).
pub const MOVE_ORIGINATOR_APPLICATION_ENTITY_TITLE: Tag = of(tags::MOVE_ORIGINATOR_APPLICATION_ENTITY_TITLE);
/// MoveOriginatorMessageID (0000,1031).
pub const MOVE_ORIGINATOR_MESSAGE_ID: Tag = of(tags::MOVE_ORIGINATOR_MESSAGE_ID);
/// FileMetaInformationGroupLength (0002,0000).
pub const FILE_META_INFORMATION_GROUP_LENGTH: Tag = of(tags::FILE_META_INFORMATION_GROUP_LENGTH);
/// FileMetaInformationVersion (0002,0001).
pub const FILE_META_INFORMATION_VERSION: Tag = of(tags::FILE_META_INFORMATION_VERSION);
/// MediaStorageSOPClassUID (0002,0002).
pub const MEDIA_STORAGE_SOP_CLASS_UID: Tag = of(tags::MEDIA_STORAGE_SOP_CLASS_UID);
/// MediaStorageSOPInstanceUID (0002,0003).
pub const MEDIA_STORAGE_SOP_INSTANCE_UID: Tag = of(tags::MEDIA_STORAGE_SOP_INSTANCE_UID);
/// TransferSyntaxUID (0002,0010).
pub const TRANSFER_SYNTAX_UID: Tag = of(tags::TRANSFER_SYNTAX_UID);
/// ImplementationClassUID (0002,0012).
pub const IMPLEMENTATION_CLASS_UID: Tag = of(tags::IMPLEMENTATION_CLASS_UID);
/// ImplementationVersionName (0002,0013).
pub const IMPLEMENTATION_VERSION_NAME: Tag = of(tags::IMPLEMENTATION_VERSION_NAME);
/// FileSetID (0004,1130).
pub const FILE_SET_ID: Tag = of(tags::FILE_SET_ID);
/// OffsetOfTheFirstDirectoryRecordOfTheRootDirectoryEntity (0004,1200).
pub const OFFSET_OF_THE_FIRST_DIRECTORY_RECORD_OF_THE_ROOT_DIRECTORY_ENTITY: Tag =
    of(tags::OFFSET_OF_THE_FIRST_DIRECTORY_RECORD_OF_THE_ROOT_DIRECTORY_ENTITY);
/// OffsetOfTheLastDirectoryRecordOfTheRootDirectoryEntity (0004,1202).
pub const OFFSET_OF_THE_LAST_DIRECTORY_RECORD_OF_THE_ROOT_DIRECTORY_ENTITY: Tag =
    of(tags::OFFSET_OF_THE_LAST_DIRECTORY_RECORD_OF_THE_ROOT_DIRECTORY_ENTITY);
/// FileSetConsistencyFlag (0004,1212).
pub const FILE_SET_CONSISTENCY_FLAG: Tag = of(tags::FILE_SET_CONSISTENCY_FLAG);
/// DirectoryRecordSequence (0004,1220).
pub const DIRECTORY_RECORD_SEQUENCE: Tag = of(tags::DIRECTORY_RECORD_SEQUENCE);
/// OffsetOfTheNextDirectoryRecord (0004,1400).
pub const OFFSET_OF_THE_NEXT_DIRECTORY_RECORD: Tag = of(tags::OFFSET_OF_THE_NEXT_DIRECTORY_RECORD);
/// RecordInUseFlag (0004,1410).
pub const RECORD_IN_USE_FLAG: Tag = of(tags::RECORD_IN_USE_FLAG);
/// OffsetOfReferencedLowerLevelDirectoryEntity (0004,1420).
pub const OFFSET_OF_REFERENCED_LOWER_LEVEL_DIRECTORY_ENTITY: Tag =
    of(tags::OFFSET_OF_REFERENCED_LOWER_LEVEL_DIRECTORY_ENTITY);
/// DirectoryRecordType (0004,1430).
pub const DIRECTORY_RECORD_TYPE: Tag = of(tags::DIRECTORY_RECORD_TYPE);
/// PrivateRecordUID (0004,1432).
pub const PRIVATE_RECORD_UID: Tag = of(tags::PRIVATE_RECORD_UID);
/// ReferencedFileID (0004,1500).
pub const REFERENCED_FILE_ID: Tag = of(tags::REFERENCED_FILE_ID);
/// ReferencedSOPClassUIDInFile (0004,1510).
pub const REFERENCED_SOP_CLASS_UID_IN_FILE: Tag = of(tags::REFERENCED_SOP_CLASS_UID_IN_FILE);
/// ReferencedSOPInstanceUIDInFile (0004,1511).
pub const REFERENCED_SOP_INSTANCE_UID_IN_FILE: Tag = of(tags::REFERENCED_SOP_INSTANCE_UID_IN_FILE);
/// ReferencedTransferSyntaxUIDInFile (0004,1512).
pub const REFERENCED_TRANSFER_SYNTAX_UID_IN_FILE: Tag = of(tags::REFERENCED_TRANSFER_SYNTAX_UID_IN_FILE);
/// SpecificCharacterSet (0008,0005).
pub const SPECIFIC_CHARACTER_SET: Tag = of(tags::SPECIFIC_CHARACTER_SET);
/// ImageType (0008,0008).
pub const IMAGE_TYPE: Tag = of(tags::IMAGE_TYPE);
/// InstanceCreationDate (0008,0012).
pub const INSTANCE_CREATION_DATE: Tag = of(tags::INSTANCE_CREATION_DATE);
/// InstanceCreationTime (0008,0013).
pub const INSTANCE_CREATION_TIME: Tag = of(tags::INSTANCE_CREATION_TIME);
/// SOPClassUID (0008,0016).
pub const SOP_CLASS_UID: Tag = of(tags::SOP_CLASS_UID);
/// SOPInstanceUID (0008,0018).
pub const SOP_INSTANCE_UID: Tag = of(tags::SOP_INSTANCE_UID);
/// StudyDate (0008,0020).
pub const STUDY_DATE: Tag = of(tags::STUDY_DATE);
/// SeriesDate (0008,0021).
pub const SERIES_DATE: Tag = of(tags::SERIES_DATE);
/// AcquisitionDate (0008,0022).
pub const ACQUISITION_DATE: Tag = of(tags::ACQUISITION_DATE);
/// ContentDate (0008,0023).
pub const CONTENT_DATE: Tag = of(tags::CONTENT_DATE);
/// AcquisitionDateTime (0008,002A).
pub const ACQUISITION_DATE_TIME: Tag = of(tags::ACQUISITION_DATE_TIME);
/// StudyTime (0008,0030).
pub const STUDY_TIME: Tag = of(tags::STUDY_TIME);
/// SeriesTime (0008,0031).
pub const SERIES_TIME: Tag = of(tags::SERIES_TIME);
/// AcquisitionTime (0008,0032).
pub const ACQUISITION_TIME: Tag = of(tags::ACQUISITION_TIME);
/// ContentTime (0008,0033).
pub const CONTENT_TIME: Tag = of(tags::CONTENT_TIME);
/// AccessionNumber (0008,0050).
pub const ACCESSION_NUMBER: Tag = of(tags::ACCESSION_NUMBER);
/// IssuerOfAccessionNumberSequence (0008,0051).
pub const ISSUER_OF_ACCESSION_NUMBER_SEQUENCE: Tag = of(tags::ISSUER_OF_ACCESSION_NUMBER_SEQUENCE);
/// QueryRetrieveLevel (0008,0052).
pub const QUERY_RETRIEVE_LEVEL: Tag = of(tags::QUERY_RETRIEVE_LEVEL);
/// RetrieveAETitle (0008,0054).
pub const RETRIEVE_AE_TITLE: Tag = of(tags::RETRIEVE_AE_TITLE);
/// InstanceAvailability (0008,0056).
pub const INSTANCE_AVAILABILITY: Tag = of(tags::INSTANCE_AVAILABILITY);
/// FailedSOPInstanceUIDList (0008,0058).
pub const FAILED_SOP_INSTANCE_UID_LIST: Tag = of(tags::FAILED_SOP_INSTANCE_UID_LIST);
/// Modality (0008,0060).
pub const MODALITY: Tag = of(tags::MODALITY);
/// ModalitiesInStudy (0008,0061).
pub const MODALITIES_IN_STUDY: Tag = of(tags::MODALITIES_IN_STUDY);
/// SOPClassesInStudy (0008,0062).
pub const SOP_CLASSES_IN_STUDY: Tag = of(tags::SOP_CLASSES_IN_STUDY);
/// ConversionType (0008,0064).
pub const CONVERSION_TYPE: Tag = of(tags::CONVERSION_TYPE);
/// PresentationIntentType (0008,0068).
pub const PRESENTATION_INTENT_TYPE: Tag = of(tags::PRESENTATION_INTENT_TYPE);
/// Manufacturer (0008,0070).
pub const MANUFACTURER: Tag = of(tags::MANUFACTURER);
/// InstitutionName (0008,0080).
pub const INSTITUTION_NAME: Tag = of(tags::INSTITUTION_NAME);
/// InstitutionCodeSequence (0008,0082).
pub const INSTITUTION_CODE_SEQUENCE: Tag = of(tags::INSTITUTION_CODE_SEQUENCE);
/// ReferringPhysicianName (0008,0090).
pub const REFERRING_PHYSICIAN_NAME: Tag = of(tags::REFERRING_PHYSICIAN_NAME);
/// CodeValue (0008,0100).
pub const CODE_VALUE: Tag = of(tags::CODE_VALUE);
/// CodingSchemeDesignator (0008,0102).
pub const CODING_SCHEME_DESIGNATOR: Tag = of(tags::CODING_SCHEME_DESIGNATOR);
/// CodeMeaning (0008,0104).
pub const CODE_MEANING: Tag = of(tags::CODE_MEANING);
/// LongCodeValue (0008,0119).
pub const LONG_CODE_VALUE: Tag = of(tags::LONG_CODE_VALUE);
/// URNCodeValue (0008,0120).
pub const URN_CODE_VALUE: Tag = of(tags::URN_CODE_VALUE);
/// TimezoneOffsetFromUTC (0008,0201).
pub const TIMEZONE_OFFSET_FROM_UTC: Tag = of(tags::TIMEZONE_OFFSET_FROM_UTC);
/// StationName (0008,1010).
pub const STATION_NAME: Tag = of(tags::STATION_NAME);
/// StudyDescription (0008,1030).
pub const STUDY_DESCRIPTION: Tag = of(tags::STUDY_DESCRIPTION);
/// ProcedureCodeSequence (0008,1032).
pub const PROCEDURE_CODE_SEQUENCE: Tag = of(tags::PROCEDURE_CODE_SEQUENCE);
/// SeriesDescription (0008,103E).
pub const SERIES_DESCRIPTION: Tag = of(tags::SERIES_DESCRIPTION);
/// InstitutionalDepartmentName (0008,1040).
pub const INSTITUTIONAL_DEPARTMENT_NAME: Tag = of(tags::INSTITUTIONAL_DEPARTMENT_NAME);
/// PhysiciansOfRecord (0008,1048).
pub const PHYSICIANS_OF_RECORD: Tag = of(tags::PHYSICIANS_OF_RECORD);
/// PerformingPhysicianName (0008,1050).
pub const PERFORMING_PHYSICIAN_NAME: Tag = of(tags::PERFORMING_PHYSICIAN_NAME);
/// NameOfPhysiciansReadingStudy (0008,1060).
pub const NAME_OF_PHYSICIANS_READING_STUDY: Tag = of(tags::NAME_OF_PHYSICIANS_READING_STUDY);
/// OperatorsName (0008,1070).
pub const OPERATORS_NAME: Tag = of(tags::OPERATORS_NAME);
/// OperatorIdentificationSequence (0008,1072).
pub const OPERATOR_IDENTIFICATION_SEQUENCE: Tag = of(tags::OPERATOR_IDENTIFICATION_SEQUENCE);
/// AdmittingDiagnosesDescription (0008,1080).
pub const ADMITTING_DIAGNOSES_DESCRIPTION: Tag = of(tags::ADMITTING_DIAGNOSES_DESCRIPTION);
/// ManufacturerModelName (0008,1090).
pub const MANUFACTURER_MODEL_NAME: Tag = of(tags::MANUFACTURER_MODEL_NAME);
/// ReferencedPerformedProcedureStepSequence (0008,1111).
pub const REFERENCED_PERFORMED_PROCEDURE_STEP_SEQUENCE: Tag =
    of(tags::REFERENCED_PERFORMED_PROCEDURE_STEP_SEQUENCE);
/// ReferencedSeriesSequence (0008,1115).
pub const REFERENCED_SERIES_SEQUENCE: Tag = of(tags::REFERENCED_SERIES_SEQUENCE);
/// ReferencedSOPClassUID (0008,1150).
pub const REFERENCED_SOP_CLASS_UID: Tag = of(tags::REFERENCED_SOP_CLASS_UID);
/// ReferencedSOPInstanceUID (0008,1155).
pub const REFERENCED_SOP_INSTANCE_UID: Tag = of(tags::REFERENCED_SOP_INSTANCE_UID);
/// ReferencedFrameNumber (0008,1160).
pub const REFERENCED_FRAME_NUMBER: Tag = of(tags::REFERENCED_FRAME_NUMBER);
/// RetrieveURL (0008,1190).
pub const RETRIEVE_URL: Tag = of(tags::RETRIEVE_URL);
/// TransactionUID (0008,1195).
pub const TRANSACTION_UID: Tag = of(tags::TRANSACTION_UID);
/// WarningReason (0008,1196).
pub const WARNING_REASON: Tag = of(tags::WARNING_REASON);
/// FailureReason (0008,1197).
pub const FAILURE_REASON: Tag = of(tags::FAILURE_REASON);
/// FailedSOPSequence (0008,1198).
pub const FAILED_SOP_SEQUENCE: Tag = of(tags::FAILED_SOP_SEQUENCE);
/// ReferencedSOPSequence (0008,1199).
pub const REFERENCED_SOP_SEQUENCE: Tag = of(tags::REFERENCED_SOP_SEQUENCE);
/// OtherFailuresSequence (0008,119A).
pub const OTHER_FAILURES_SEQUENCE: Tag = of(tags::OTHER_FAILURES_SEQUENCE);
/// DerivationDescription (0008,2111).
pub const DERIVATION_DESCRIPTION: Tag = of(tags::DERIVATION_DESCRIPTION);
/// SourceImageSequence (0008,2112).
pub const SOURCE_IMAGE_SEQUENCE: Tag = of(tags::SOURCE_IMAGE_SEQUENCE);
/// AvailableTransferSyntaxUID (0008,3002).
pub const AVAILABLE_TRANSFER_SYNTAX_UID: Tag = of(tags::AVAILABLE_TRANSFER_SYNTAX_UID);
/// ReferencedImageEvidenceSequence (0008,9092).
pub const REFERENCED_IMAGE_EVIDENCE_SEQUENCE: Tag = of(tags::REFERENCED_IMAGE_EVIDENCE_SEQUENCE);
/// PatientName (0010,0010).
pub const PATIENT_NAME: Tag = of(tags::PATIENT_NAME);
/// PatientID (0010,0020).
pub const PATIENT_ID: Tag = of(tags::PATIENT_ID);
/// IssuerOfPatientID (0010,0021).
pub const ISSUER_OF_PATIENT_ID: Tag = of(tags::ISSUER_OF_PATIENT_ID);
/// PatientBirthDate (0010,0030).
pub const PATIENT_BIRTH_DATE: Tag = of(tags::PATIENT_BIRTH_DATE);
/// PatientBirthTime (0010,0032).
pub const PATIENT_BIRTH_TIME: Tag = of(tags::PATIENT_BIRTH_TIME);
/// PatientSex (0010,0040).
pub const PATIENT_SEX: Tag = of(tags::PATIENT_SEX);
/// OtherPatientIDs (0010,1000).
#[expect(deprecated, reason = "the attribute is retired, and objects still have it")]
pub const OTHER_PATIENT_IDS: Tag = of(tags::OTHER_PATIENT_I_DS);
/// OtherPatientNames (0010,1001).
pub const OTHER_PATIENT_NAMES: Tag = of(tags::OTHER_PATIENT_NAMES);
/// OtherPatientIDsSequence (0010,1002).
pub const OTHER_PATIENT_IDS_SEQUENCE: Tag = of(tags::OTHER_PATIENT_I_DS_SEQUENCE);
/// PatientAge (0010,1010).
pub const PATIENT_AGE: Tag = of(tags::PATIENT_AGE);
/// PatientSize (0010,1020).
pub const PATIENT_SIZE: Tag = of(tags::PATIENT_SIZE);
/// PatientWeight (0010,1030).
pub const PATIENT_WEIGHT: Tag = of(tags::PATIENT_WEIGHT);
/// EthnicGroup (0010,2160).
#[expect(deprecated, reason = "the attribute is retired, and objects still have it")]
pub const ETHNIC_GROUP: Tag = of(tags::ETHNIC_GROUP);
/// Occupation (0010,2180).
pub const OCCUPATION: Tag = of(tags::OCCUPATION);
/// AdditionalPatientHistory (0010,21B0).
pub const ADDITIONAL_PATIENT_HISTORY: Tag = of(tags::ADDITIONAL_PATIENT_HISTORY);
/// PatientComments (0010,4000).
pub const PATIENT_COMMENTS: Tag = of(tags::PATIENT_COMMENTS);
/// PatientIdentityRemoved (0012,0062).
pub const PATIENT_IDENTITY_REMOVED: Tag = of(tags::PATIENT_IDENTITY_REMOVED);
/// DeidentificationMethod (0012,0063).
pub const DEIDENTIFICATION_METHOD: Tag = of(tags::DEIDENTIFICATION_METHOD);
/// DeidentificationMethodCodeSequence (0012,0064).
pub const DEIDENTIFICATION_METHOD_CODE_SEQUENCE: Tag = of(tags::DEIDENTIFICATION_METHOD_CODE_SEQUENCE);
/// ContrastBolusAgent (0018,0010).
pub const CONTRAST_BOLUS_AGENT: Tag = of(tags::CONTRAST_BOLUS_AGENT);
/// BodyPartExamined (0018,0015).
pub const BODY_PART_EXAMINED: Tag = of(tags::BODY_PART_EXAMINED);
/// SliceThickness (0018,0050).
pub const SLICE_THICKNESS: Tag = of(tags::SLICE_THICKNESS);
/// KVP (0018,0060).
pub const KVP: Tag = of(tags::KVP);
/// SpacingBetweenSlices (0018,0088).
pub const SPACING_BETWEEN_SLICES: Tag = of(tags::SPACING_BETWEEN_SLICES);
/// DeviceSerialNumber (0018,1000).
pub const DEVICE_SERIAL_NUMBER: Tag = of(tags::DEVICE_SERIAL_NUMBER);
/// SoftwareVersions (0018,1020).
pub const SOFTWARE_VERSIONS: Tag = of(tags::SOFTWARE_VERSIONS);
/// ProtocolName (0018,1030).
pub const PROTOCOL_NAME: Tag = of(tags::PROTOCOL_NAME);
/// XRayTubeCurrent (0018,1151).
pub const X_RAY_TUBE_CURRENT: Tag = of(tags::X_RAY_TUBE_CURRENT);
/// ImagerPixelSpacing (0018,1164).
pub const IMAGER_PIXEL_SPACING: Tag = of(tags::IMAGER_PIXEL_SPACING);
/// PatientPosition (0018,5100).
pub const PATIENT_POSITION: Tag = of(tags::PATIENT_POSITION);
/// ViewPosition (0018,5101).
pub const VIEW_POSITION: Tag = of(tags::VIEW_POSITION);
/// StudyInstanceUID (0020,000D).
pub const STUDY_INSTANCE_UID: Tag = of(tags::STUDY_INSTANCE_UID);
/// SeriesInstanceUID (0020,000E).
pub const SERIES_INSTANCE_UID: Tag = of(tags::SERIES_INSTANCE_UID);
/// StudyID (0020,0010).
pub const STUDY_ID: Tag = of(tags::STUDY_ID);
/// SeriesNumber (0020,0011).
pub const SERIES_NUMBER: Tag = of(tags::SERIES_NUMBER);
/// AcquisitionNumber (0020,0012).
pub const ACQUISITION_NUMBER: Tag = of(tags::ACQUISITION_NUMBER);
/// InstanceNumber (0020,0013).
pub const INSTANCE_NUMBER: Tag = of(tags::INSTANCE_NUMBER);
/// PatientOrientation (0020,0020).
pub const PATIENT_ORIENTATION: Tag = of(tags::PATIENT_ORIENTATION);
/// ImagePositionPatient (0020,0032).
pub const IMAGE_POSITION_PATIENT: Tag = of(tags::IMAGE_POSITION_PATIENT);
/// ImageOrientationPatient (0020,0037).
pub const IMAGE_ORIENTATION_PATIENT: Tag = of(tags::IMAGE_ORIENTATION_PATIENT);
/// FrameOfReferenceUID (0020,0052).
pub const FRAME_OF_REFERENCE_UID: Tag = of(tags::FRAME_OF_REFERENCE_UID);
/// Laterality (0020,0060).
pub const LATERALITY: Tag = of(tags::LATERALITY);
/// ImageLaterality (0020,0062).
pub const IMAGE_LATERALITY: Tag = of(tags::IMAGE_LATERALITY);
/// TemporalPositionIdentifier (0020,0100).
pub const TEMPORAL_POSITION_IDENTIFIER: Tag = of(tags::TEMPORAL_POSITION_IDENTIFIER);
/// SliceLocation (0020,1041).
pub const SLICE_LOCATION: Tag = of(tags::SLICE_LOCATION);
/// NumberOfPatientRelatedStudies (0020,1200).
pub const NUMBER_OF_PATIENT_RELATED_STUDIES: Tag = of(tags::NUMBER_OF_PATIENT_RELATED_STUDIES);
/// NumberOfPatientRelatedSeries (0020,1202).
pub const NUMBER_OF_PATIENT_RELATED_SERIES: Tag = of(tags::NUMBER_OF_PATIENT_RELATED_SERIES);
/// NumberOfPatientRelatedInstances (0020,1204).
pub const NUMBER_OF_PATIENT_RELATED_INSTANCES: Tag = of(tags::NUMBER_OF_PATIENT_RELATED_INSTANCES);
/// NumberOfStudyRelatedSeries (0020,1206).
pub const NUMBER_OF_STUDY_RELATED_SERIES: Tag = of(tags::NUMBER_OF_STUDY_RELATED_SERIES);
/// NumberOfStudyRelatedInstances (0020,1208).
pub const NUMBER_OF_STUDY_RELATED_INSTANCES: Tag = of(tags::NUMBER_OF_STUDY_RELATED_INSTANCES);
/// NumberOfSeriesRelatedInstances (0020,1209).
pub const NUMBER_OF_SERIES_RELATED_INSTANCES: Tag = of(tags::NUMBER_OF_SERIES_RELATED_INSTANCES);
/// ImageComments (0020,4000).
pub const IMAGE_COMMENTS: Tag = of(tags::IMAGE_COMMENTS);
/// SamplesPerPixel (0028,0002).
pub const SAMPLES_PER_PIXEL: Tag = of(tags::SAMPLES_PER_PIXEL);
/// PhotometricInterpretation (0028,0004).
pub const PHOTOMETRIC_INTERPRETATION: Tag = of(tags::PHOTOMETRIC_INTERPRETATION);
/// PlanarConfiguration (0028,0006).
pub const PLANAR_CONFIGURATION: Tag = of(tags::PLANAR_CONFIGURATION);
/// NumberOfFrames (0028,0008).
pub const NUMBER_OF_FRAMES: Tag = of(tags::NUMBER_OF_FRAMES);
/// Rows (0028,0010).
pub const ROWS: Tag = of(tags::ROWS);
/// Columns (0028,0011).
pub const COLUMNS: Tag = of(tags::COLUMNS);
/// PixelSpacing (0028,0030).
pub const PIXEL_SPACING: Tag = of(tags::PIXEL_SPACING);
/// BitsAllocated (0028,0100).
pub const BITS_ALLOCATED: Tag = of(tags::BITS_ALLOCATED);
/// BitsStored (0028,0101).
pub const BITS_STORED: Tag = of(tags::BITS_STORED);
/// HighBit (0028,0102).
pub const HIGH_BIT: Tag = of(tags::HIGH_BIT);
/// PixelRepresentation (0028,0103).
pub const PIXEL_REPRESENTATION: Tag = of(tags::PIXEL_REPRESENTATION);
/// BurnedInAnnotation (0028,0301).
pub const BURNED_IN_ANNOTATION: Tag = of(tags::BURNED_IN_ANNOTATION);
/// RecognizableVisualFeatures (0028,0302).
pub const RECOGNIZABLE_VISUAL_FEATURES: Tag = of(tags::RECOGNIZABLE_VISUAL_FEATURES);
/// LongitudinalTemporalInformationModified (0028,0303).
pub const LONGITUDINAL_TEMPORAL_INFORMATION_MODIFIED: Tag =
    of(tags::LONGITUDINAL_TEMPORAL_INFORMATION_MODIFIED);
/// WindowCenter (0028,1050).
pub const WINDOW_CENTER: Tag = of(tags::WINDOW_CENTER);
/// WindowWidth (0028,1051).
pub const WINDOW_WIDTH: Tag = of(tags::WINDOW_WIDTH);
/// RescaleIntercept (0028,1052).
pub const RESCALE_INTERCEPT: Tag = of(tags::RESCALE_INTERCEPT);
/// RescaleSlope (0028,1053).
pub const RESCALE_SLOPE: Tag = of(tags::RESCALE_SLOPE);
/// RescaleType (0028,1054).
pub const RESCALE_TYPE: Tag = of(tags::RESCALE_TYPE);
/// VOILUTFunction (0028,1056).
pub const VOILUT_FUNCTION: Tag = of(tags::VOILUT_FUNCTION);
/// LossyImageCompression (0028,2110).
pub const LOSSY_IMAGE_COMPRESSION: Tag = of(tags::LOSSY_IMAGE_COMPRESSION);
/// LossyImageCompressionRatio (0028,2112).
pub const LOSSY_IMAGE_COMPRESSION_RATIO: Tag = of(tags::LOSSY_IMAGE_COMPRESSION_RATIO);
/// LossyImageCompressionMethod (0028,2114).
pub const LOSSY_IMAGE_COMPRESSION_METHOD: Tag = of(tags::LOSSY_IMAGE_COMPRESSION_METHOD);
/// DataPointRows (0028,9001).
pub const DATA_POINT_ROWS: Tag = of(tags::DATA_POINT_ROWS);
/// DataPointColumns (0028,9002).
pub const DATA_POINT_COLUMNS: Tag = of(tags::DATA_POINT_COLUMNS);
/// RequestedProcedureDescription (0032,1060).
pub const REQUESTED_PROCEDURE_DESCRIPTION: Tag = of(tags::REQUESTED_PROCEDURE_DESCRIPTION);
/// PerformedProcedureStepStartDate (0040,0244).
pub const PERFORMED_PROCEDURE_STEP_START_DATE: Tag = of(tags::PERFORMED_PROCEDURE_STEP_START_DATE);
/// PerformedProcedureStepStartTime (0040,0245).
pub const PERFORMED_PROCEDURE_STEP_START_TIME: Tag = of(tags::PERFORMED_PROCEDURE_STEP_START_TIME);
/// PerformedProcedureStepDescription (0040,0254).
pub const PERFORMED_PROCEDURE_STEP_DESCRIPTION: Tag = of(tags::PERFORMED_PROCEDURE_STEP_DESCRIPTION);
/// RequestAttributesSequence (0040,0275).
pub const REQUEST_ATTRIBUTES_SEQUENCE: Tag = of(tags::REQUEST_ATTRIBUTES_SEQUENCE);
/// MeasurementUnitsCodeSequence (0040,08EA).
pub const MEASUREMENT_UNITS_CODE_SEQUENCE: Tag = of(tags::MEASUREMENT_UNITS_CODE_SEQUENCE);
/// PersonIdentificationCodeSequence (0040,1101).
pub const PERSON_IDENTIFICATION_CODE_SEQUENCE: Tag = of(tags::PERSON_IDENTIFICATION_CODE_SEQUENCE);
/// RelationshipType (0040,A010).
pub const RELATIONSHIP_TYPE: Tag = of(tags::RELATIONSHIP_TYPE);
/// VerificationDateTime (0040,A030).
pub const VERIFICATION_DATE_TIME: Tag = of(tags::VERIFICATION_DATE_TIME);
/// ObservationDateTime (0040,A032).
pub const OBSERVATION_DATE_TIME: Tag = of(tags::OBSERVATION_DATE_TIME);
/// ValueType (0040,A040).
pub const VALUE_TYPE: Tag = of(tags::VALUE_TYPE);
/// ConceptNameCodeSequence (0040,A043).
pub const CONCEPT_NAME_CODE_SEQUENCE: Tag = of(tags::CONCEPT_NAME_CODE_SEQUENCE);
/// VerifyingObserverSequence (0040,A073).
pub const VERIFYING_OBSERVER_SEQUENCE: Tag = of(tags::VERIFYING_OBSERVER_SEQUENCE);
/// VerifyingObserverName (0040,A075).
pub const VERIFYING_OBSERVER_NAME: Tag = of(tags::VERIFYING_OBSERVER_NAME);
/// DateTime (0040,A120).
pub const DATE_TIME: Tag = of(tags::DATE_TIME);
/// Date (0040,A121).
pub const DATE: Tag = of(tags::DATE);
/// Time (0040,A122).
pub const TIME: Tag = of(tags::TIME);
/// PersonName (0040,A123).
pub const PERSON_NAME: Tag = of(tags::PERSON_NAME);
/// UID (0040,A124).
pub const UID: Tag = of(tags::UID);
/// TemporalRangeType (0040,A130).
pub const TEMPORAL_RANGE_TYPE: Tag = of(tags::TEMPORAL_RANGE_TYPE);
/// ReferencedSamplePositions (0040,A132).
pub const REFERENCED_SAMPLE_POSITIONS: Tag = of(tags::REFERENCED_SAMPLE_POSITIONS);
/// ReferencedTimeOffsets (0040,A138).
pub const REFERENCED_TIME_OFFSETS: Tag = of(tags::REFERENCED_TIME_OFFSETS);
/// ReferencedDateTime (0040,A13A).
pub const REFERENCED_DATE_TIME: Tag = of(tags::REFERENCED_DATE_TIME);
/// TextValue (0040,A160).
pub const TEXT_VALUE: Tag = of(tags::TEXT_VALUE);
/// ConceptCodeSequence (0040,A168).
pub const CONCEPT_CODE_SEQUENCE: Tag = of(tags::CONCEPT_CODE_SEQUENCE);
/// PurposeOfReferenceCodeSequence (0040,A170).
pub const PURPOSE_OF_REFERENCE_CODE_SEQUENCE: Tag = of(tags::PURPOSE_OF_REFERENCE_CODE_SEQUENCE);
/// MeasuredValueSequence (0040,A300).
pub const MEASURED_VALUE_SEQUENCE: Tag = of(tags::MEASURED_VALUE_SEQUENCE);
/// NumericValueQualifierCodeSequence (0040,A301).
pub const NUMERIC_VALUE_QUALIFIER_CODE_SEQUENCE: Tag = of(tags::NUMERIC_VALUE_QUALIFIER_CODE_SEQUENCE);
/// NumericValue (0040,A30A).
pub const NUMERIC_VALUE: Tag = of(tags::NUMERIC_VALUE);
/// CurrentRequestedProcedureEvidenceSequence (0040,A375).
pub const CURRENT_REQUESTED_PROCEDURE_EVIDENCE_SEQUENCE: Tag =
    of(tags::CURRENT_REQUESTED_PROCEDURE_EVIDENCE_SEQUENCE);
/// PertinentOtherEvidenceSequence (0040,A385).
pub const PERTINENT_OTHER_EVIDENCE_SEQUENCE: Tag = of(tags::PERTINENT_OTHER_EVIDENCE_SEQUENCE);
/// CompletionFlag (0040,A491).
pub const COMPLETION_FLAG: Tag = of(tags::COMPLETION_FLAG);
/// CompletionFlagDescription (0040,A492).
pub const COMPLETION_FLAG_DESCRIPTION: Tag = of(tags::COMPLETION_FLAG_DESCRIPTION);
/// VerificationFlag (0040,A493).
pub const VERIFICATION_FLAG: Tag = of(tags::VERIFICATION_FLAG);
/// ContentSequence (0040,A730).
pub const CONTENT_SEQUENCE: Tag = of(tags::CONTENT_SEQUENCE);
/// ReferencedContentItemIdentifier (0040,DB73).
pub const REFERENCED_CONTENT_ITEM_IDENTIFIER: Tag = of(tags::REFERENCED_CONTENT_ITEM_IDENTIFIER);
/// HL7InstanceIdentifier (0040,E001).
pub const HL7_INSTANCE_IDENTIFIER: Tag = of(tags::HL7_INSTANCE_IDENTIFIER);
/// DocumentTitle (0042,0010).
pub const DOCUMENT_TITLE: Tag = of(tags::DOCUMENT_TITLE);
/// EncapsulatedDocument (0042,0011).
pub const ENCAPSULATED_DOCUMENT: Tag = of(tags::ENCAPSULATED_DOCUMENT);
/// MIMETypeOfEncapsulatedDocument (0042,0012).
pub const MIME_TYPE_OF_ENCAPSULATED_DOCUMENT: Tag = of(tags::MIME_TYPE_OF_ENCAPSULATED_DOCUMENT);
/// ReferencedSegmentNumber (0062,000B).
pub const REFERENCED_SEGMENT_NUMBER: Tag = of(tags::REFERENCED_SEGMENT_NUMBER);
/// GraphicData (0070,0022).
pub const GRAPHIC_DATA: Tag = of(tags::GRAPHIC_DATA);
/// GraphicType (0070,0023).
pub const GRAPHIC_TYPE: Tag = of(tags::GRAPHIC_TYPE);
/// ContentLabel (0070,0080).
pub const CONTENT_LABEL: Tag = of(tags::CONTENT_LABEL);
/// ContentDescription (0070,0081).
pub const CONTENT_DESCRIPTION: Tag = of(tags::CONTENT_DESCRIPTION);
/// PresentationCreationDate (0070,0082).
pub const PRESENTATION_CREATION_DATE: Tag = of(tags::PRESENTATION_CREATION_DATE);
/// PresentationCreationTime (0070,0083).
pub const PRESENTATION_CREATION_TIME: Tag = of(tags::PRESENTATION_CREATION_TIME);
/// ContentCreatorName (0070,0084).
pub const CONTENT_CREATOR_NAME: Tag = of(tags::CONTENT_CREATOR_NAME);
/// BlendingSequence (0070,0402).
pub const BLENDING_SEQUENCE: Tag = of(tags::BLENDING_SEQUENCE);
/// SelectorAttribute (0072,0026).
pub const SELECTOR_ATTRIBUTE: Tag = of(tags::SELECTOR_ATTRIBUTE);
/// FailedAttributesSequence (0074,1048).
pub const FAILED_ATTRIBUTES_SEQUENCE: Tag = of(tags::FAILED_ATTRIBUTES_SEQUENCE);
/// PresentationLUTShape (2050,0020).
pub const PRESENTATION_LUT_SHAPE: Tag = of(tags::PRESENTATION_LUT_SHAPE);
/// DoseSummationType (3004,000A).
pub const DOSE_SUMMATION_TYPE: Tag = of(tags::DOSE_SUMMATION_TYPE);
/// StructureSetLabel (3006,0002).
pub const STRUCTURE_SET_LABEL: Tag = of(tags::STRUCTURE_SET_LABEL);
/// StructureSetDate (3006,0008).
pub const STRUCTURE_SET_DATE: Tag = of(tags::STRUCTURE_SET_DATE);
/// StructureSetTime (3006,0009).
pub const STRUCTURE_SET_TIME: Tag = of(tags::STRUCTURE_SET_TIME);
/// TreatmentDate (3008,0250).
pub const TREATMENT_DATE: Tag = of(tags::TREATMENT_DATE);
/// TreatmentTime (3008,0251).
pub const TREATMENT_TIME: Tag = of(tags::TREATMENT_TIME);
/// RTPlanLabel (300A,0002).
pub const RT_PLAN_LABEL: Tag = of(tags::RT_PLAN_LABEL);
/// RTPlanDate (300A,0006).
pub const RT_PLAN_DATE: Tag = of(tags::RT_PLAN_DATE);
/// RTPlanTime (300A,0007).
pub const RT_PLAN_TIME: Tag = of(tags::RT_PLAN_TIME);
/// UserContentLabel (3010,0033).
pub const USER_CONTENT_LABEL: Tag = of(tags::USER_CONTENT_LABEL);
/// UserContentLongLabel (3010,0034).
pub const USER_CONTENT_LONG_LABEL: Tag = of(tags::USER_CONTENT_LONG_LABEL);
/// ExtendedOffsetTable (7FE0,0001).
pub const EXTENDED_OFFSET_TABLE: Tag = of(tags::EXTENDED_OFFSET_TABLE);
/// ExtendedOffsetTableLengths (7FE0,0002).
pub const EXTENDED_OFFSET_TABLE_LENGTHS: Tag = of(tags::EXTENDED_OFFSET_TABLE_LENGTHS);
/// EncapsulatedPixelDataValueTotalLength (7FE0,0003).
pub const ENCAPSULATED_PIXEL_DATA_VALUE_TOTAL_LENGTH: Tag =
    of(tags::ENCAPSULATED_PIXEL_DATA_VALUE_TOTAL_LENGTH);
/// FloatPixelData (7FE0,0008).
pub const FLOAT_PIXEL_DATA: Tag = of(tags::FLOAT_PIXEL_DATA);
/// DoubleFloatPixelData (7FE0,0009).
pub const DOUBLE_FLOAT_PIXEL_DATA: Tag = of(tags::DOUBLE_FLOAT_PIXEL_DATA);
/// PixelData (7FE0,0010).
pub const PIXEL_DATA: Tag = of(tags::PIXEL_DATA);
/// DataSetTrailingPadding (FFFC,FFFC).
pub const DATA_SET_TRAILING_PADDING: Tag = of(tags::DATA_SET_TRAILING_PADDING);
/// Item (FFFE,E000).
pub const ITEM: Tag = Tag(0xFFFE_E000);
/// ItemDelimitationItem (FFFE,E00D).
pub const ITEM_DELIMITATION_ITEM: Tag = Tag(0xFFFE_E00D);
/// SequenceDelimitationItem (FFFE,E0DD).
pub const SEQUENCE_DELIMITATION_ITEM: Tag = Tag(0xFFFE_E0DD);

/// Whether an attribute is Pixel Data, Float Pixel Data or Double Float Pixel Data.
pub fn is_pixel_data(tag: Tag) -> bool {
    matches!(tag, FLOAT_PIXEL_DATA | DOUBLE_FLOAT_PIXEL_DATA | PIXEL_DATA)
}

const fn of(tag: dicom_core::Tag) -> Tag {
    Tag((tag.0 as u32) << 16 | tag.1 as u32)
}
