"""Buckets, table, queue and key as they came to exist."""

import json

import pytest

CLASSES = ["originals", "previews", "thumbnails", "temporary", "archive"]


@pytest.fixture(scope="module")
def s3(production):
    return production.client("s3")


def bucket(production, name):
    return production.outputs()["BucketPrefix"] + name


def rules(s3, name):
    return s3.get_bucket_lifecycle_configuration(Bucket=name)["Rules"]


def test_there_is_a_bucket_for_each_class(production, s3):
    names = {found["Name"] for found in s3.list_buckets()["Buckets"]}
    assert names == {bucket(production, name) for name in [*CLASSES, "logs"]}
    for name in CLASSES:
        assert production.outputs()[f"{name.capitalize()}Bucket"] == bucket(production, name)


@pytest.mark.parametrize("name", CLASSES)
def test_objects_are_encrypted_with_the_key(production, s3, name):
    (rule,) = s3.get_bucket_encryption(Bucket=bucket(production, name))["ServerSideEncryptionConfiguration"]["Rules"]
    assert rule["BucketKeyEnabled"] is True
    assert rule["ApplyServerSideEncryptionByDefault"] == {
        "SSEAlgorithm": "aws:kms",
        "KMSMasterKeyID": production.outputs()["KeyArn"],
    }


@pytest.mark.parametrize("name", [*CLASSES, "logs"])
def test_nothing_of_a_bucket_is_public_or_without_tls(production, s3, name):
    name = bucket(production, name)
    block = s3.get_public_access_block(Bucket=name)["PublicAccessBlockConfiguration"]
    assert set(block.values()) == {True} and len(block) == 4
    ownership = s3.get_bucket_ownership_controls(Bucket=name)["OwnershipControls"]["Rules"]
    assert ownership == [{"ObjectOwnership": "BucketOwnerEnforced"}]
    statements = json.loads(s3.get_bucket_policy(Bucket=name)["Policy"])["Statement"]
    denied = [statement for statement in statements if statement["Effect"] == "Deny"]
    assert denied == [{
        "Sid": "TlsOnly", "Effect": "Deny", "Principal": "*", "Action": "s3:*",
        "Resource": [f"arn:aws:s3:::{name}", f"arn:aws:s3:::{name}/*"],
        "Condition": {"Bool": {"aws:SecureTransport": "false"}},
    }]


def test_cloudfront_reads_previews_and_thumbnails_only(production, s3):
    for name in CLASSES:
        statements = json.loads(s3.get_bucket_policy(Bucket=bucket(production, name))["Policy"])["Statement"]
        allowed = [statement for statement in statements if statement["Effect"] == "Allow"]
        if name in ("previews", "thumbnails"):
            (statement,) = allowed
            assert statement["Action"] == "s3:GetObject"
            assert statement["Principal"] == {"Service": "cloudfront.amazonaws.com"}
            assert statement["Condition"]["StringEquals"] == {"aws:SourceAccount": "123456789012"}
        else:
            assert allowed == []


def test_what_cannot_be_made_again_has_versions(production, s3):
    versioned = {name for name in CLASSES if "Status" in s3.get_bucket_versioning(Bucket=bucket(production, name))}
    assert versioned == {"originals", "archive"}


def test_originals_only_move_where_they_are_still_read_at_once(production, s3):
    (rule,) = rules(s3, bucket(production, "originals"))
    assert rule["Transitions"] == [{"Days": 30, "StorageClass": "INTELLIGENT_TIERING"}]
    assert rule["NoncurrentVersionExpiration"] == {"NoncurrentDays": 30}
    assert "Days" not in rule["Expiration"]
    assert rule["Expiration"]["ExpiredObjectDeleteMarker"] is True


def test_each_class_goes_its_way(production, s3):
    (previews,) = rules(s3, bucket(production, "previews"))
    assert previews["Transitions"] == [{"Days": 60, "StorageClass": "ONEZONE_IA"}]
    (thumbnails,) = rules(s3, bucket(production, "thumbnails"))
    assert "Transitions" not in thumbnails and "Expiration" not in thumbnails
    (temporary,) = rules(s3, bucket(production, "temporary"))
    assert temporary["Expiration"]["Days"] == 7
    (archive,) = rules(s3, bucket(production, "archive"))
    assert archive["Transitions"] == [
        {"Days": 1, "StorageClass": "GLACIER_IR"},
        {"Days": 180, "StorageClass": "DEEP_ARCHIVE"},
    ]


@pytest.mark.parametrize("name", [*CLASSES, "logs"])
def test_uploads_that_were_cut_off_are_cleared_away(production, s3, name):
    (rule,) = rules(s3, bucket(production, name))
    assert rule["Status"] == "Enabled"
    assert rule["AbortIncompleteMultipartUpload"] == {"DaysAfterInitiation": 1}


def test_accesses_are_logged(production):
    for name in CLASSES:
        properties = production.resources("storage")[name.capitalize()]["Properties"]
        assert properties["LoggingConfiguration"] == {
            "DestinationBucketName": bucket(production, "logs"), "LogFilePrefix": f"{name}/",
        }


def test_what_is_stored_outlives_its_stack(production):
    for stack, kinds in {"storage": ["AWS::S3::Bucket", "AWS::KMS::Key"], "table": ["AWS::DynamoDB::Table"]}.items():
        for kind in kinds:
            for resource in production.resources(stack, kind).values():
                assert resource["DeletionPolicy"] == resource["UpdateReplacePolicy"] == "Retain"


def test_the_table_is_the_one_that_the_server_expects(production):
    table = production.client("dynamodb").describe_table(TableName=production.outputs()["TableName"])["Table"]
    assert table["KeySchema"] == [
        {"AttributeName": "PK", "KeyType": "HASH"},
        {"AttributeName": "SK", "KeyType": "RANGE"},
    ]
    assert {attribute["AttributeType"] for attribute in table["AttributeDefinitions"]} == {"S"}
    indexes = {index["IndexName"]: index for index in table["GlobalSecondaryIndexes"]}
    assert sorted(indexes) == ["GSI1", "GSI2", "GSI3", "GSI4", "GSI5"]
    for name, index in indexes.items():
        assert index["Projection"] == {"ProjectionType": "KEYS_ONLY"}
        assert index["KeySchema"] == [
            {"AttributeName": f"{name}PK", "KeyType": "HASH"},
            {"AttributeName": f"{name}SK", "KeyType": "RANGE"},
        ]


def test_the_table_is_protected(production):
    name = production.outputs()["TableName"]
    client = production.client("dynamodb")
    table = client.describe_table(TableName=name)["Table"]
    assert table["DeletionProtectionEnabled"] is True
    assert table["BillingModeSummary"]["BillingMode"] == "PAY_PER_REQUEST"
    # Of which moto's CloudFormation loses the key.
    encryption = production.resources("table")["Table"]["Properties"]["SSESpecification"]
    assert encryption == {"SSEEnabled": True, "SSEType": "KMS", "KMSMasterKeyId": production.outputs()["KeyArn"]}
    backups = client.describe_continuous_backups(TableName=name)["ContinuousBackupsDescription"]
    assert backups["PointInTimeRecoveryDescription"]["PointInTimeRecoveryStatus"] == "ENABLED"


def test_a_job_that_fails_five_times_goes_to_the_dead_letter_queue(production):
    client = production.client("sqs")
    queue, failed = (
        client.get_queue_attributes(
            QueueUrl=client.get_queue_url(QueueName=production.outputs()[name])["QueueUrl"], AttributeNames=["All"]
        )["Attributes"]
        for name in ("QueueName", "DeadLetterQueueName")
    )
    redrive = json.loads(queue["RedrivePolicy"])
    assert redrive["deadLetterTargetArn"] == failed["QueueArn"]
    assert int(redrive["maxReceiveCount"]) == 5
    for attributes in (queue, failed):
        assert attributes["KmsMasterKeyId"] == production.outputs()["KeyArn"]
        assert attributes["MessageRetentionPeriod"] == "1209600"
        (statement,) = json.loads(attributes["Policy"])["Statement"]
        assert statement["Effect"] == "Deny"
        assert statement["Resource"] == attributes["QueueArn"]
        assert statement["Condition"] == {"Bool": {"aws:SecureTransport": "false"}}


def test_the_key_turns_over_and_serves_nobody_from_elsewhere(production):
    client = production.client("kms")
    key = production.outputs()["KeyArn"]
    assert client.get_key_rotation_status(KeyId=key)["KeyRotationEnabled"] is True
    aliases = client.list_aliases(KeyId=key)["Aliases"]
    assert [alias["AliasName"] for alias in aliases] == ["alias/cuspid-prod"]
    policy = production.resources("storage")["Key"]["Properties"]["KeyPolicy"]
    for statement in policy["Statement"]:
        account = statement["Principal"] == {"AWS": "arn:aws:iam::123456789012:root"}
        assert account or "Condition" in statement
