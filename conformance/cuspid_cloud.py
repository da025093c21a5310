"""Settings of a Cuspid server whose blobs are in S3 and whose table is in DynamoDB. `tools/cloud.py` starts both for tests."""

import os
import subprocess
import uuid

import boto3
from botocore.config import Config


def endpoint(service: str, name: str = "") -> str:
    """The URL of the first server of a service (`s3`, `dynamodb`, `sqs`), or of the server with this name."""
    variable = f"CUSPID_TEST_{service.upper()}"
    if variable not in os.environ:
        raise RuntimeError(f"{variable} is not set: run this under tools/cloud.py")
    urls = dict(each.split("=", 1) for each in os.environ[variable].split())
    return urls[name] if name else next(iter(urls.values()))


def s3_client(url: str):
    # Options that S3 servers other than Amazon's accept, too.
    config = Config(
        s3={"addressing_style": "path"},
        request_checksum_calculation="when_required",
        response_checksum_validation="when_required",
    )
    return boto3.client("s3", endpoint_url=url, config=config)


class Cloud:
    """An empty bucket and an empty table, and the settings that name them.

    `s3_url` and `dynamodb_url` may name proxies before the servers, for example proxies that count requests or make them fail.
    `dynamodb` names one of the DynamoDB servers; the first one is the default.
    """

    def __init__(self, binary: os.PathLike, s3_url: str = "", dynamodb_url: str = "", dynamodb: str = ""):
        self.s3 = s3_client(endpoint("s3"))
        self.name = f"cuspid-{uuid.uuid4().hex[:12]}"
        self.s3.create_bucket(Bucket=self.name)
        self.settings = [
            "storage.blobs=s3",
            f"s3.endpoint={s3_url or endpoint('s3')}",
            "s3.path_style=true",
            f"s3.bucket={self.name}/{{class}}",
            "storage.table=dynamodb",
            f"dynamodb.table={self.name}",
        ]
        create = [binary, "table", "create", "--set", f"dynamodb.endpoint={endpoint('dynamodb', dynamodb)}"]
        subprocess.run([*create, "--set", f"dynamodb.table={self.name}"], check=True, capture_output=True)
        self.settings.append(f"dynamodb.endpoint={dynamodb_url or endpoint('dynamodb', dynamodb)}")

    def objects(self, prefix: str) -> list:
        """The keys of all objects below a prefix that starts with their class."""
        pages = self.s3.get_paginator("list_objects_v2").paginate(Bucket=self.name, Prefix=prefix)
        return [entry["Key"] for page in pages for entry in page.get("Contents", [])]
