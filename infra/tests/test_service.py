"""What runs: cluster, roles, services, load balancers, as they came to exist or as the templates have them."""

import json
import re

import boto3
import pytest
import yaml
from emulated import IMAGE, INFRA, LEFT_OUT, NOT_EMULATED, deploy

SOURCES = INFRA.parent / "src"
SERVICES = ["blue", "worker", "dimse"]

# What the server asks of a store, and the permission that it takes.
CALLS = {
    "s3": {
        "abort_multipart_upload": "s3:AbortMultipartUpload",
        "complete_multipart_upload": "s3:PutObject",
        "create_multipart_upload": "s3:PutObject",
        "delete_object": "s3:DeleteObject",
        "get_object": "s3:GetObject",
        "head_object": "s3:GetObject",
        "list_objects_v2": "s3:ListBucket",
        "put_object": "s3:PutObject",
        "upload_part": "s3:PutObject",
    },
    "dynamodb": {
        "batch_get_item": "dynamodb:BatchGetItem",
        "delete_item": "dynamodb:DeleteItem",
        "describe_table": "dynamodb:DescribeTable",
        "get_item": "dynamodb:GetItem",
        "put_item": "dynamodb:PutItem",
        "query": "dynamodb:Query",
        # Its parts are allowed one by one; puts and deletions are above, additions below.
        "transact_write_items": "dynamodb:ConditionCheckItem",
    },
    "sqs": {
        "change_message_visibility": "sqs:ChangeMessageVisibility",
        "delete_message": "sqs:DeleteMessage",
        "get_queue_attributes": "sqs:GetQueueAttributes",
        "receive_message": "sqs:ReceiveMessage",
        "send_message": "sqs:SendMessage",
    },
}
# The parts of transactions that are no calls of their own.
PARTS = {"dynamodb": {"dynamodb:UpdateItem"}}
# Only for `cuspid table create`, which has no place where the table is a stack's, and for unit tests.
NOT_OF_THE_SERVICE = {"create_table", "update_table", "update_continuous_backups", "create_bucket", "create_queue"}


def statements(production, role):
    """What a role may do."""
    iam = production.client("iam")
    (resource,) = [r for n, r in production.resources("cluster", "AWS::IAM::Role").items() if n == role]
    name = production.outputs()[f"{role}Arn"].split("/")[-1]
    documents = [
        iam.get_role_policy(RoleName=name, PolicyName=policy)["PolicyDocument"]
        for policy in iam.list_role_policies(RoleName=name)["PolicyNames"]
    ]
    for arn in resource["Properties"].get("ManagedPolicyArns", []):
        documents.append(iam.get_policy_version(PolicyArn=arn, VersionId="v1")["PolicyVersion"]["Document"])
    # What moto's CloudFormation made comes as Python writes it.
    documents = [yaml.safe_load(document) if isinstance(document, str) else document for document in documents]
    return [statement for document in documents for statement in document["Statement"]]


def actions(statement):
    found = statement["Action"]
    return {found} if isinstance(found, str) else set(found)


def resources(statement):
    found = statement["Resource"]
    return [found] if isinstance(found, str) else found


def test_everything_is_made_but_what_moto_cannot(production):
    not_made = set()
    for stack in production.settings["stacks"]:
        left_out = LEFT_OUT.get(stack, {}).get("Resources", [])
        for name, kind in production.missing(stack).items():
            assert kind in NOT_EMULATED or name in left_out, f"{stack} {name}"
            not_made.add(kind)
    assert set(NOT_EMULATED) <= not_made, "moto has learnt to make some"


@pytest.mark.parametrize("role", ["ExecutionRole", "ServeRole", "WorkerRole"])
def test_a_role_has_no_wildcards(production, role):
    for statement in statements(production, role):
        assert statement["Effect"] == "Allow"
        assert not any("*" in action for action in actions(statement))
        if actions(statement) != {"ecr:GetAuthorizationToken"}:
            assert not any(re.search(r"\*(?!$)|^\*$|[^/]\*$", resource) for resource in resources(statement))


def test_a_task_may_do_what_the_code_calls_and_no_more(production):
    files = {
        "s3": (SOURCES / "blobs" / "s3").rglob("*.rs"),
        "dynamodb": (SOURCES / "table" / "dynamodb").rglob("*.rs"),
        "sqs": [SOURCES / "queue" / "sqs.rs"],
    }
    allowed = {action for s in statements(production, "WorkerRole") for action in actions(s)}
    for service, paths in files.items():
        source = "\n".join(path.read_text() for path in paths if path.name != "tests.rs")
        verbs = "abort|batch|change|complete|create|delete|describe|get|head|list|put|receive|send|transact|update|upload"
        operations = boto_operations(service) & set(re.findall(rf"\.((?:{verbs})_\w+|query|scan)\(\)", source))
        assert operations - NOT_OF_THE_SERVICE == set(CALLS[service]), service
        wanted = set(CALLS[service].values()) | PARTS.get(service, set())
        assert {action for action in allowed if action.startswith(f"{service}:")} == wanted


def boto_operations(service):
    """Names of a service's operations as methods, to tell them from other methods."""
    return set(dir(boto3.client(service, region_name="us-east-1")))


def test_servers_announce_jobs_and_take_none(production):
    allowed = {action for s in statements(production, "ServeRole") for action in actions(s)}
    assert {action for action in allowed if action.startswith("sqs:")} == {"sqs:GetQueueAttributes", "sqs:SendMessage"}


def test_a_task_reaches_its_own_buckets_and_table_only(production):
    prefix, table = production.outputs()["BucketPrefix"], production.outputs()["TableArn"]
    names = ["originals", "previews", "thumbnails", "temporary"]
    for statement in statements(production, "WorkerRole"):
        services = {action.split(":")[0] for action in actions(statement)}
        if services == {"s3"}:
            tail = "" if actions(statement) == {"s3:ListBucket"} else "/*"
            assert resources(statement) == [f"arn:aws:s3:::{prefix}{name}{tail}" for name in names]
        elif services == {"dynamodb"}:
            assert resources(statement) == [table, f"{table}/index/*"]
        elif services == {"kms"}:
            assert resources(statement) == [production.outputs()["KeyArn"]]
            assert set(statement["Condition"]["StringEquals"]) == {"kms:ViaService"}


def test_logs_are_encrypted_and_end(production):
    groups = production.client("logs").describe_log_groups(logGroupNamePrefix="/cuspid/prod/")["logGroups"]
    assert sorted(group["logGroupName"] for group in groups) == ["/cuspid/prod/serve", "/cuspid/prod/worker"]
    for group in groups:
        assert group["retentionInDays"] == 365
    # Of which moto's CloudFormation loses the key.
    for group in production.resources("cluster", "AWS::Logs::LogGroup").values():
        assert group["Properties"]["KmsKeyId"] == production.outputs()["KeyArn"]


@pytest.mark.parametrize("stack", SERVICES)
def test_a_container_is_locked_down(production, stack):
    (task,) = production.resources(stack, "AWS::ECS::TaskDefinition").values()
    task = task["Properties"]
    assert task["TaskRoleArn"] == production.outputs()["WorkerRoleArn" if stack == "worker" else "ServeRoleArn"]
    assert task["ExecutionRoleArn"] == production.outputs()["ExecutionRoleArn"]
    definition = production.client("ecs").describe_task_definition(taskDefinition=task["Family"])["taskDefinition"]
    (container,) = definition["containerDefinitions"]
    assert container["image"] == IMAGE
    assert container["user"] == "10001:10001"
    assert container["readonlyRootFilesystem"] is True
    assert "privileged" not in container
    assert container["command"] == (["worker"] if stack == "worker" else ["serve"])
    assert [mount["containerPath"] for mount in container["mountPoints"]] == ["/var/lib/cuspid"]


def test_nothing_but_nat_has_a_public_address(production):
    for stack in production.settings["stacks"]:
        text = json.dumps(production.resources(stack))
        assert "internet-facing" not in text
        assert '"AssignPublicIp": "ENABLED"' not in text
        addresses = production.resources(stack, "AWS::EC2::EIP")
        assert not addresses or stack == "network"
    balancers = production.client("elbv2").describe_load_balancers()["LoadBalancers"]
    assert {balancer["Scheme"] for balancer in balancers} == {"internal"}
    for stack, kind in {"blue": "TaskSet", "worker": "Service", "dimse": "Service"}.items():
        network = production.resources(stack)[kind]["Properties"]["NetworkConfiguration"]
        (vpc,) = network.values()
        assert vpc["AssignPublicIp"] == "DISABLED"
        assert ",".join(vpc["Subnets"]) == production.outputs()["PrivateSubnets"]


def test_health_is_asked_of_readyz(production):
    groups = production.client("elbv2").describe_target_groups()["TargetGroups"]
    assert len(groups) == 3
    assert {group["HealthCheckPath"] for group in groups} == {"/readyz"}
    (dimse,) = production.resources("dimse", "AWS::ElasticLoadBalancingV2::TargetGroup").values()
    assert dimse["Properties"]["HealthCheckProtocol"] == "HTTP"
    assert dimse["Properties"]["HealthCheckPort"] == "8080"


def test_https_goes_to_blue_and_the_other_port_to_green(production):
    client = production.client("elbv2")
    listeners = client.describe_listeners(LoadBalancerArn=production.outputs()["LoadBalancerArn"])["Listeners"]
    by_port = {listener["Port"]: listener for listener in listeners}
    assert set(by_port) == {443, 8443}
    assert {listener["Protocol"] for listener in listeners} == {"HTTPS"}
    (action,) = by_port[443]["DefaultActions"]
    blue, green = production.outputs()["BlueTargetsArn"], production.outputs()["GreenTargetsArn"]
    weights = {group["TargetGroupArn"]: int(group["Weight"]) for group in action["ForwardConfig"]["TargetGroups"]}
    assert weights == {blue: 1, green: 0}
    assert by_port[8443]["DefaultActions"][0]["TargetGroupArn"] == green


def test_dimse_is_tcp_11112(production):
    (listener,) = production.resources("dimse", "AWS::ElasticLoadBalancingV2::Listener").values()
    assert (listener["Properties"]["Protocol"], listener["Properties"]["Port"]) == ("TCP", 11112)
    (balancer,) = production.resources("dimse", "AWS::ElasticLoadBalancingV2::LoadBalancer").values()
    assert (balancer["Properties"]["Type"], balancer["Properties"]["Scheme"]) == ("network", "internal")


def test_the_service_is_run_by_task_sets(production):
    service = production.resources("service")["Service"]["Properties"]
    assert service["DeploymentController"] == {"Type": "EXTERNAL"}
    assert "DesiredCount" not in service and "TaskDefinition" not in service
    blue = production.resources("blue")
    assert blue["TaskSet"]["Properties"]["Scale"] == {"Unit": "PERCENT", "Value": 100}
    (target,) = blue["TaskSet"]["Properties"]["LoadBalancers"]
    assert target["TargetGroupArn"] == production.outputs()["BlueTargetsArn"]
    assert blue["PrimaryTaskSet"]["Properties"]["TaskSetId"] == "<TaskSet.Id>"


@pytest.mark.parametrize(
    ("stack", "service", "least", "most", "metrics"),
    [
        ("service", "web", 3, 40, {"ECSServiceAverageCPUUtilization", "ALBRequestCountPerTarget"}),
        ("worker", "worker", 1, 40, {"ApproximateNumberOfMessagesVisible / RunningTaskCount"}),
        ("dimse", "dimse", 2, 10, {"ECSServiceAverageCPUUtilization"}),
    ],
)
def test_a_service_scales(production, stack, service, least, most, metrics):
    (target,) = production.resources(stack, "AWS::ApplicationAutoScaling::ScalableTarget").values()
    assert target["Properties"]["ScalableDimension"] == "ecs:service:DesiredCount"
    assert target["Properties"]["ResourceId"].startswith("service/cuspid-prod/")
    assert production.resources(stack)["Service"]["Properties"]["ServiceName"] == f"cuspid-prod-{service}"
    assert (target["Properties"]["MinCapacity"], target["Properties"]["MaxCapacity"]) == (least, most)
    found = set()
    for policy in production.resources(stack, "AWS::ApplicationAutoScaling::ScalingPolicy").values():
        tracking = policy["Properties"]["TargetTrackingScalingPolicyConfiguration"]
        if "PredefinedMetricSpecification" in tracking:
            found.add(tracking["PredefinedMetricSpecification"]["PredefinedMetricType"])
        else:
            *parts, whole = tracking["CustomizedMetricSpecification"]["Metrics"]
            expression = whole["Expression"]
            for part in parts:
                expression = expression.replace(part["Id"], part["MetricStat"]["Metric"]["MetricName"])
            found.add(expression)
    assert found == metrics


def test_requests_are_counted_of_the_primary_colour(production):
    label = production.resources("service")["ScalingByRequests"]["Properties"][
        "TargetTrackingScalingPolicyConfiguration"]["PredefinedMetricSpecification"]["ResourceLabel"]
    assert re.fullmatch(r"app/cuspid-prod/[^/]+/targetgroup/[^/]+/[^/]+", label)
    assert label.endswith(production.outputs()["BlueTargetsName"])


def test_tasks_may_be_reached_from_load_balancers_only(production):
    groups = production.client("ec2").describe_security_groups()["SecurityGroups"]
    by_id = {group["GroupId"]: group for group in groups}
    tasks = by_id[production.outputs()["TaskGroup"]]["IpPermissions"]
    assert [(rule["FromPort"], rule["ToPort"], rule["IpRanges"]) for rule in tasks] == [(8080, 8080, [])]
    assert [pair["GroupId"] for pair in tasks[0]["UserIdGroupPairs"]] == [production.outputs()["LoadBalancerGroup"]]
    for stack in ("cluster", "dimse"):
        for group in production.resources(stack, "AWS::EC2::SecurityGroup").values():
            for rule in group["Properties"].get("SecurityGroupIngress", []):
                assert rule.get("CidrIp") != "0.0.0.0/0"
            for rule in group["Properties"]["SecurityGroupEgress"]:
                assert rule["CidrIp"] == "255.255.255.255/32" or rule["FromPort"] == rule["ToPort"] == 443


def test_images_do_not_change_under_their_tag(production):
    (repository,) = production.client("ecr").describe_repositories()["repositories"]
    assert repository["imageTagMutability"] == "IMMUTABLE"
    # The rest moto's CloudFormation loses.
    repository = production.resources("cluster")["Repository"]["Properties"]
    assert repository["ImageScanningConfiguration"] == {"ScanOnPush": True}
    assert repository["EncryptionConfiguration"] == {"EncryptionType": "KMS", "KmsKey": production.outputs()["KeyArn"]}


def test_templates_hold_no_secret():
    for path in deploy.TEMPLATES.glob("*.yaml"):
        template = yaml.load(path.read_text(), deploy.Loader)
        for name, slot in template["Parameters"].items():
            assert not re.search("secret|password|privatekey", name, re.IGNORECASE), f"{path.stem} {name}"
            assert slot.get("NoEcho") is None
