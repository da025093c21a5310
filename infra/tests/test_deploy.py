"""deploy.py, as an operator uses it."""

import pytest
from emulated import IMAGE, deploy

NEXT = IMAGE.replace(":1", ":2")


def weights(environment):
    (action,) = environment.resources("service")["Listener"]["Properties"]["DefaultActions"]
    blue, green = action["ForwardConfig"]["TargetGroups"]
    return int(blue["Weight"]), int(green["Weight"])


def scale(environment, colour):
    return int(environment.resources(colour)["TaskSet"]["Properties"]["Scale"]["Value"])


def image(environment, colour):
    task = environment.resources(colour)["TaskDefinition"]["Properties"]
    return task["ContainerDefinitions"][0]["Image"]


def primary(environment):
    return [colour for colour in ("blue", "green") if "PrimaryTaskSet" in environment.resources(colour)]


def test_a_version_is_changed_and_changed_back(development):
    development.deploy_all()
    assert (weights(development), scale(development, "blue"), image(development, "blue")) == ((1, 0), 100, IMAGE)

    development.deploy("green", Image=NEXT, IsPrimary="false", ScalePercent="100")
    assert (weights(development), scale(development, "green"), image(development, "green")) == ((1, 0), 100, NEXT)
    (target,) = development.resources("green")["TaskSet"]["Properties"]["LoadBalancers"]
    assert target["TargetGroupArn"] == development.outputs()["GreenTargetsArn"]

    development.deploy("service", BlueWeight="90", GreenWeight="10")
    assert weights(development) == (90, 10)

    development.deploy("service", BlueWeight="0", GreenWeight="1", PrimaryColour="green")
    development.deploy("green", IsPrimary="true")
    development.deploy("blue", IsPrimary="false")
    assert (weights(development), primary(development)) == ((0, 1), ["green"])
    # Neither image nor scale were set again.
    assert (scale(development, "green"), image(development, "green")) == (100, NEXT)
    test_port = development.resources("service")["TestListener"]["Properties"]["DefaultActions"][0]
    assert test_port["TargetGroupArn"] == development.outputs()["BlueTargetsArn"]

    development.deploy("service", BlueWeight="1", GreenWeight="0", PrimaryColour="blue")
    development.deploy("blue", IsPrimary="true")
    development.deploy("green", IsPrimary="false", ScalePercent="0")
    assert (weights(development), primary(development)) == ((1, 0), ["blue"])
    assert (scale(development, "blue"), scale(development, "green"), image(development, "blue")) == (100, 0, IMAGE)


def test_a_stack_that_is_made_is_updated(development, capsys):
    development.deploy("storage")
    arn = development.outputs()["KeyArn"]
    development.deploy("storage", TemporaryDays="3")
    assert capsys.readouterr().out == "cuspid-dev-storage: made\ncuspid-dev-storage: updated\n"
    assert development.outputs()["KeyArn"] == arn
    (rule,) = development.resources("storage")["Temporary"]["Properties"]["LifecycleConfiguration"]["Rules"]
    assert int(rule["ExpirationInDays"]) == 3


def test_what_was_set_stays_and_a_changed_default_takes_effect(development):
    development.deploy("storage", DeletedDays="9")
    text = deploy.read_template("storage").replace("Default: 7", "Default: 8")
    client, settings = development.client("cloudformation"), development.settings
    deploy.deploy(client, settings, ["storage"], {}, lambda stack: text)
    assert deploy.read_template("storage") != text
    made = development.resources("storage")
    (originals,) = made["Originals"]["Properties"]["LifecycleConfiguration"]["Rules"]
    (temporary,) = made["Temporary"]["Properties"]["LifecycleConfiguration"]["Rules"]
    assert int(originals["NoncurrentVersionExpiration"]["NoncurrentDays"]) == 9
    assert int(temporary["ExpirationInDays"]) == 8


def test_what_a_stack_before_it_gives_need_not_be_said(development):
    with pytest.raises(deploy.Refused, match="queue needs KeyArn"):
        development.deploy("queue")
    development.deploy("storage", "queue")
    queue = development.resources("queue")["Queue"]["Properties"]
    assert queue["KmsMasterKeyId"] == development.outputs()["KeyArn"]


def test_a_network_of_ones_own_is_said_instead(development):
    development.deploy("network")
    own = development.outputs()
    development.settings["parameters"] |= {"VpcId": own["VpcId"], "PrivateSubnets": own["PrivateSubnets"]}
    development.settings["stacks"].remove("network")
    development.deploy_all()
    balancer = development.resources("service")["LoadBalancer"]["Properties"]
    assert ",".join(balancer["Subnets"]) == own["PrivateSubnets"]


def test_a_parameter_that_nobody_asks_for_is_refused_before_anything_is_made(development):
    with pytest.raises(deploy.Refused, match="no parameter TemporaryDay in storage"):
        development.deploy("storage", TemporaryDay="3")
    assert development.client("cloudformation").list_stacks()["StackSummaries"] == []


def test_what_cloudformation_refuses_is_told(development):
    development.deploy("network", "storage", "table", "queue", "cluster")
    with pytest.raises(deploy.Refused, match="cuspid-dev-service: .*certificate"):
        development.deploy("service")


def test_stacks_of_production_are_kept_from_deletion(production, development):
    development.deploy("storage")
    assert production.stack("storage")["EnableTerminationProtection"] is True
    assert development.stack("storage")["EnableTerminationProtection"] is False
    policy = production.client("cloudformation").get_stack_policy(StackName="cuspid-prod-storage")["StackPolicyBody"]
    assert policy == deploy.KEEP_WHAT_IS_STORED
