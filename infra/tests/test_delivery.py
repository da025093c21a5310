"""CloudFront, which moto's CloudFormation does not make: as the template has it."""

import shutil
import subprocess

import pytest


@pytest.fixture(scope="module")
def distribution(production):
    return production.resources("delivery")["Distribution"]["Properties"]["DistributionConfig"]


def test_the_service_is_reached_inside_the_network(production, distribution):
    (origin,) = [origin for origin in distribution["Origins"] if origin["Id"] == "service"]
    assert origin["VpcOriginConfig"]["VpcOriginId"] == "<VpcOrigin.Id>"
    assert origin["DomainName"] == production.outputs()["LoadBalancerDns"]
    endpoint = production.resources("delivery")["VpcOrigin"]["Properties"]["VpcOriginEndpointConfig"]
    assert endpoint["Arn"] == production.outputs()["LoadBalancerArn"]
    assert endpoint["OriginProtocolPolicy"] == "https-only"


def test_buckets_are_read_under_origin_access_control(production, distribution):
    control = production.resources("delivery")["OriginAccess"]["Properties"]["OriginAccessControlConfig"]
    assert (control["SigningBehavior"], control["SigningProtocol"]) == ("always", "sigv4")
    buckets = {origin["Id"]: origin for origin in distribution["Origins"] if "S3OriginConfig" in origin}
    assert set(buckets) == {"previews", "thumbnails"}
    for name, origin in buckets.items():
        assert origin["OriginAccessControlId"] == "<OriginAccess>"
        assert origin["S3OriginConfig"] == {}
        bucket = production.outputs()[f"{name.capitalize()}Bucket"]
        assert origin["DomainName"] == f"{bucket}.s3.eu-central-1.amazonaws.com"


def test_objects_are_given_by_signed_urls_only(production, distribution):
    behaviours = {behaviour["PathPattern"]: behaviour for behaviour in distribution["CacheBehaviors"]}
    assert set(behaviours) == {"/signed/previews/*", "/signed/thumbnails/*"}
    for behaviour in behaviours.values():
        assert behaviour["TrustedKeyGroups"] == ["<SigningKeys>"]
        assert behaviour["AllowedMethods"] == ["GET", "HEAD", "OPTIONS"]
    group = production.resources("delivery")["SigningKeys"]["Properties"]["KeyGroupConfig"]
    assert group["Items"] == ["<SigningKey>"]
    key = production.resources("delivery")["SigningKey"]["Properties"]["PublicKeyConfig"]
    assert key["EncodedKey"] == production.settings["parameters"]["SigningPublicKey"]


def test_answers_of_the_service_are_not_kept(distribution):
    default = distribution["DefaultCacheBehavior"]
    assert default["TargetOriginId"] == "service"
    assert default["CachePolicyId"] == "4135ea2d-6df8-44a3-9df3-4b5a84be39ad"
    assert {"GET", "POST", "PUT", "DELETE"} <= set(default["AllowedMethods"])


def test_nothing_goes_without_tls(distribution):
    behaviours = [distribution["DefaultCacheBehavior"], *distribution["CacheBehaviors"]]
    assert {behaviour["ViewerProtocolPolicy"] for behaviour in behaviours} == {"https-only"}
    assert distribution["ViewerCertificate"]["MinimumProtocolVersion"] == "TLSv1.2_2021"
    assert "Logging" not in distribution


@pytest.mark.parametrize(
    ("asked", "key"),
    [
        ("/signed/previews/tenant/1.2/1.3/5/preview", "/tenant/1.2/1.3/5/preview"),
        ("/signed/thumbnails/signed/x", "/signed/x"),
    ],
)
def test_the_prefix_is_taken_off(production, asked, key):
    node = shutil.which("node")
    assert node, "tools/install.sh infra installs node"
    code = production.resources("delivery")["WithoutPrefix"]["Properties"]["FunctionCode"]
    run = f'{code}\nconsole.log(handler({{request: {{uri: "{asked}"}}}}).uri);'
    assert subprocess.run([node, "-e", run], capture_output=True, text=True, check=True).stdout.strip() == key


def test_the_private_key_is_kept_with_the_key_and_out_of_reach_of_tasks(production):
    secret = production.client("secretsmanager").describe_secret(SecretId="cuspid/prod/url-signing-key")
    assert secret["KmsKeyId"] == production.outputs()["KeyArn"]
    assert "secretsmanager" not in str(production.resources("cluster"))
