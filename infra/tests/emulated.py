"""An environment in moto, a stand-in for AWS: stacks made by deploy.py through its CloudFormation, and, by calls of the services
themselves, what that leaves out.

    infra/.venv/bin/python infra/tests/emulated.py COMMAND...

runs a command beside such an environment, with the settings (`CUSPID_…`) that ECS would give to the container of the web service, and
where S3, DynamoDB and SQS are.
"""

import copy
import json
import os
import subprocess
import sys
import warnings
from pathlib import Path

import boto3
import yaml

INFRA = Path(__file__).absolute().parent.parent
sys.path.insert(0, str(INFRA))
import deploy  # noqa: E402

from moto.cloudformation.models import cloudformation_backends  # noqa: E402
from moto.cloudformation.parsing import clean_json  # noqa: E402
from moto.server import ThreadedMotoServer  # noqa: E402

# Resources of which moto makes nothing, with what the tests do about them. All others must come to exist.
NOT_EMULATED = {
    "AWS::ApplicationAutoScaling::ScalableTarget": "looked at in the template",
    "AWS::ApplicationAutoScaling::ScalingPolicy": "looked at in the template",
    "AWS::CloudFront::Distribution": "looked at in the template",
    "AWS::CloudFront::Function": "looked at in the template, and run",
    "AWS::CloudFront::KeyGroup": "looked at in the template",
    "AWS::CloudFront::OriginAccessControl": "looked at in the template",
    "AWS::CloudFront::PublicKey": "looked at in the template",
    "AWS::CloudFront::ResponseHeadersPolicy": "looked at in the template",
    "AWS::CloudFront::VpcOrigin": "looked at in the template",
    "AWS::CloudWatch::Alarm": "made by PutMetricAlarm",
    "AWS::EC2::SecurityGroupEgress": "looked at in the template",
    "AWS::ECS::PrimaryTaskSet": "looked at in the template",
    "AWS::ECS::TaskSet": "looked at in the template",
    "AWS::Logs::MetricFilter": "made by PutMetricFilter",
    "AWS::S3::BucketPolicy": "made by PutBucketPolicy",
    "AWS::SNS::Subscription": "looked at in the template",
    "AWS::SQS::QueuePolicy": "made by SetQueueAttributes",
    "AWS::SecretsManager::Secret": "made by CreateSecret",
}

# Left out of what is sent to moto, which fails on them: its services of ECS must name a task definition, where those with task
# sets must not; its listeners have no weights, unless made by CreateListener, and no TCP, since to it all load balancers are for
# HTTP; its outputs cannot be of what it does not make.
LEFT_OUT = {
    "service": {"Resources": ["Service", "Listener"], "Outputs": []},
    "dimse": {"Resources": ["Listener"], "Outputs": []},
    "delivery": {"Resources": [], "Outputs": ["DistributionDomain"]},
}

IMAGE = "123456789012.dkr.ecr.eu-central-1.amazonaws.com/cuspid-prod:1"


def read_for_moto(stack):
    """The text of a stack's template without what is `LEFT_OUT`."""
    text = deploy.read_template(stack)
    if stack not in LEFT_OUT:
        return text
    template = yaml.load(text, deploy.Loader)
    for section, names in LEFT_OUT[stack].items():
        for name in names:
            del template[section][name]
    return yaml.safe_dump(template)


class Environment:
    """A server of moto, and an account in it with the stacks of one parameter file."""

    def __init__(self, parameter_file, account="123456789012"):
        warnings.filterwarnings("ignore", message="Tried to parse")
        self.account = account
        # Asked for more often than they change.
        self._outputs = None
        self.settings = yaml.safe_load((INFRA / "parameters" / parameter_file).read_text())
        self.region = self.settings["region"]
        self._server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
        self._server.start()
        self.url = "http://{}:{}".format(*self._server.get_host_and_port())
        # Servers of one process share what they have made; accounts do not.
        anyone = {"aws_access_key_id": "testing", "aws_secret_access_key": "testing"}
        sts = boto3.client("sts", region_name=self.region, endpoint_url=self.url, **anyone)
        role = f"arn:aws:iam::{account}:role/operator"
        keys = sts.assume_role(RoleArn=role, RoleSessionName="tests")["Credentials"]
        self.credentials = {
            "aws_access_key_id": keys["AccessKeyId"],
            "aws_secret_access_key": keys["SecretAccessKey"],
            "aws_session_token": keys["SessionToken"],
        }

    def stop(self):
        """Ends the server; all is gone with it."""
        self._server.stop()

    def client(self, service):
        """A client of one of the emulated services."""
        return boto3.client(service, region_name=self.region, endpoint_url=self.url, **self.credentials)

    def deploy(self, *stacks, **overrides):
        """What deploy.py does for these stacks."""
        self._outputs = None
        deploy.deploy(self.client("cloudformation"), self.settings, stacks, overrides, read_for_moto)

    def deploy_all(self):
        """From nothing to a running service, as docs/deployment.md has it."""
        name = self.settings["parameters"]["DomainName"]
        certificate = self.client("acm").request_certificate(DomainName=name)["CertificateArn"]
        self.settings["parameters"]["CertificateArn"] = certificate
        stacks = self.settings["stacks"]
        first = stacks.index("service")
        self.deploy(*stacks[:first])
        self.deploy(*stacks[first:], Image=IMAGE, IsPrimary="true", ScalePercent="100")
        self.complete()

    def stack(self, stack):
        """Its description."""
        name = f"cuspid-{self.settings['environment']}-{stack}"
        return self.client("cloudformation").describe_stacks(StackName=name)["Stacks"][0]

    def outputs(self):
        """Every stack's outputs, by name."""
        if self._outputs is None:
            self._outputs = deploy.outputs(self.client("cloudformation"), self.settings["environment"])
        return self._outputs

    def resources(self, stack, kind=None):
        """The resources of a stack whose condition is met, of one type or of all, by name, with parameters and references put
        in; what moto does not make is referred to as `<Name>` or `<Name.Attribute>`."""
        template = yaml.load(deploy.read_template(stack), deploy.Loader)
        map_ = self._map(stack)
        resolve = _Resolver(map_)
        return {
            name: resolve(copy.deepcopy(resource))
            for name, resource in template["Resources"].items()
            if kind in (None, resource["Type"]) and map_.lazy_condition_map.get(resource.get("Condition"), True)
        }

    def missing(self, stack):
        """Names and types of resources that ought to exist, and do not."""
        made = self._map(stack)._parsed_resources
        return {name: resource["Type"] for name, resource in self.resources(stack).items() if name not in made}

    def container_environment(self, stack):
        """The environment of the container in a stack's task definition, as ECS knows it."""
        (task,) = self.resources(stack, "AWS::ECS::TaskDefinition").values()
        family = task["Properties"]["Family"]
        definition = self.client("ecs").describe_task_definition(taskDefinition=family)["taskDefinition"]
        (container,) = definition["containerDefinitions"]
        return {pair["name"]: pair["value"] for pair in container["environment"]}

    def settings_of(self, stack):
        """The environment of a process that stands for a stack's container, here."""
        # moto passes over conditions of policies, and so would deny with TLS what is only to be denied without.
        for bucket in self.resources("storage", "AWS::S3::Bucket").values():
            self.client("s3").delete_bucket_policy(Bucket=bucket["Properties"]["BucketName"])
        return self.container_environment(stack) | {
            "AWS_REGION": self.region,
            **{name.upper(): value for name, value in self.credentials.items()},
            "CUSPID_S3__ENDPOINT": self.url,
            "CUSPID_S3__PATH_STYLE": "true",
            "CUSPID_DYNAMODB__ENDPOINT": self.url,
            "CUSPID_JOBS__ENDPOINT": self.url,
        }

    def complete(self):
        """Makes by the services' own calls what moto's CloudFormation does not."""
        s3, sqs = self.client("s3"), self.client("sqs")
        for bucket in self.resources("storage", "AWS::S3::Bucket").values():
            _complete_bucket(s3, bucket["Properties"])
        for policy in self.resources("storage", "AWS::S3::BucketPolicy").values():
            bucket, document = policy["Properties"]["Bucket"], policy["Properties"]["PolicyDocument"]
            s3.put_bucket_policy(Bucket=bucket, Policy=json.dumps(document))
        (table,) = self.resources("table", "AWS::DynamoDB::Table").values()
        name, recovery = table["Properties"]["TableName"], table["Properties"]["PointInTimeRecoverySpecification"]
        self.client("dynamodb").update_continuous_backups(TableName=name, PointInTimeRecoverySpecification=recovery)
        # Else it would be the text of the parameter, in answers, too.
        protection = table["Properties"]["DeletionProtectionEnabled"] == "true"
        self.client("dynamodb").update_table(TableName=name, DeletionProtectionEnabled=protection)
        self.client("elbv2").create_listener(**self.resources("service")["Listener"]["Properties"])
        for policy in self.resources("queue", "AWS::SQS::QueuePolicy").values():
            for queue in policy["Properties"]["Queues"]:
                document = json.dumps(policy["Properties"]["PolicyDocument"])
                sqs.set_queue_attributes(QueueUrl=queue, Attributes={"Policy": document})
        if "alarms" in self.settings["stacks"]:
            for alarm in self.resources("alarms", "AWS::CloudWatch::Alarm").values():
                self.client("cloudwatch").put_metric_alarm(**alarm["Properties"])
            for name, filter_ in self.resources("alarms", "AWS::Logs::MetricFilter").items():
                properties = filter_["Properties"]
                self.client("logs").put_metric_filter(
                    logGroupName=properties["LogGroupName"], filterName=name, filterPattern=properties["FilterPattern"],
                    metricTransformations=[_camel(change) for change in properties["MetricTransformations"]],
                )
        if "delivery" in self.settings["stacks"]:
            for secret in self.resources("delivery", "AWS::SecretsManager::Secret").values():
                self.client("secretsmanager").create_secret(**secret["Properties"])

    def _map(self, stack):
        backend = cloudformation_backends[self.account][self.region]
        return backend.get_stack(self.stack(stack)["StackId"]).resource_map


class _Resolver:
    """CloudFormation's functions, by moto where it can."""

    def __init__(self, map_):
        self.map = map_

    def __call__(self, value):
        if isinstance(value, list):
            return [done for done in map(self, value) if done is not None]
        if not isinstance(value, dict):
            return value
        if len(value) == 1:
            ((function, argument),) = value.items()
            if function == "Ref":
                return self._reference(argument)
            if function == "Fn::GetAtt":
                return self._attribute(*argument)
            if function == "Fn::Sub":
                return self._substitute(argument)
            if function == "Fn::If":
                condition, yes, no = argument
                return self(yes if self.map.lazy_condition_map[condition] else no)
            if function.startswith("Fn::"):
                return clean_json({function: self(argument)}, self.map)
        return {key: done for key, part in value.items() if (done := self(part)) is not None}

    def _reference(self, name):
        if name == "AWS::NoValue":
            return None
        try:
            found = self.map[name]
        except KeyError:
            found = None
        if found is None:
            return f"<{name}>"
        return getattr(found, "physical_resource_id", found)

    def _attribute(self, name, attribute):
        found = self.map.get(name)
        return f"<{name}.{attribute}>" if found is None else found.get_cfn_attribute(attribute)

    def _substitute(self, text):
        parts = text.split("${")
        whole = parts[0]
        for part in parts[1:]:
            name, rest = part.split("}", 1)
            found = self._attribute(*name.split(".", 1)) if "." in name else self._reference(name)
            whole += f"{found}{rest}"
        return whole


def _complete_bucket(s3, properties):
    name = properties["BucketName"]
    encryption = [
        {"BucketKeyEnabled": rule.get("BucketKeyEnabled", False),
         "ApplyServerSideEncryptionByDefault": rule["ServerSideEncryptionByDefault"]}
        for rule in properties["BucketEncryption"]["ServerSideEncryptionConfiguration"]
    ]
    s3.put_bucket_encryption(Bucket=name, ServerSideEncryptionConfiguration={"Rules": encryption})
    if "VersioningConfiguration" in properties:
        s3.put_bucket_versioning(Bucket=name, VersioningConfiguration=properties["VersioningConfiguration"])
    s3.put_public_access_block(
        Bucket=name, PublicAccessBlockConfiguration=properties["PublicAccessBlockConfiguration"]
    )
    s3.put_bucket_ownership_controls(Bucket=name, OwnershipControls=properties["OwnershipControls"])
    rules = [_lifecycle_rule(rule) for rule in properties["LifecycleConfiguration"]["Rules"]]
    s3.put_bucket_lifecycle_configuration(Bucket=name, LifecycleConfiguration={"Rules": rules})


def _lifecycle_rule(rule):
    """A rule as the API of S3 has it; CloudFormation names three things otherwise."""
    rule = copy.deepcopy(rule)
    done = {"ID": rule.pop("Id"), "Filter": {"Prefix": ""}, "Status": rule.pop("Status")}
    expiration = {}
    if "ExpirationInDays" in rule:
        expiration["Days"] = int(rule.pop("ExpirationInDays"))
    if "ExpiredObjectDeleteMarker" in rule:
        expiration["ExpiredObjectDeleteMarker"] = rule.pop("ExpiredObjectDeleteMarker")
    if expiration:
        done["Expiration"] = expiration
    for transition in rule.pop("Transitions", []):
        changed = {"StorageClass": transition["StorageClass"], "Days": int(transition["TransitionInDays"])}
        done.setdefault("Transitions", []).append(changed)
    for name in ("NoncurrentVersionExpiration", "AbortIncompleteMultipartUpload"):
        if name in rule:
            done[name] = {key: int(days) for key, days in rule.pop(name).items()}
    assert not rule, f"not carried over: {rule}"
    return done


def _camel(properties):
    return {name[0].lower() + name[1:]: value for name, value in properties.items()}



def main(command):
    """Runs `command` beside an environment; its exit status."""
    environment = Environment("dev-us-east-1.yaml")
    try:
        environment.deploy_all()
        settings = environment.settings_of("blue")
        return subprocess.run(command, env=os.environ | settings, check=False).returncode
    finally:
        environment.stop()


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
