"""The settings that containers and the unit give to the server are settings that it has."""

import re
import tomllib

import pytest
import yaml
from emulated import INFRA, deploy

DEFAULTS = tomllib.loads((INFRA.parent / "src" / "config.default.toml").read_text())
FILES = [*sorted(deploy.TEMPLATES.glob("*.yaml")), INFRA / "Containerfile", INFRA / "cuspid.service"]
NAMED = sorted({(path.name, name) for path in FILES for name in re.findall(r"\bCUSPID_[A-Z0-9_]+", path.read_text())})

# Of the stores, which every process must see alike.
SHARED = re.compile("CUSPID_(STORAGE|S3|DYNAMODB)__|CUSPID_JOBS__(QUEUE|REGION)")


def environment(stack):
    """Name and value of each variable of a stack's container, references as they stand."""
    template = yaml.load(deploy.read_template(stack), deploy.Loader)
    (container,) = template["Resources"]["TaskDefinition"]["Properties"]["ContainerDefinitions"]
    return {pair["Name"]: pair["Value"] for pair in container["Environment"]}


@pytest.mark.parametrize(("file", "name"), NAMED)
def test_a_setting_exists(file, name):
    section, key = name.removeprefix("CUSPID_").lower().split("__")
    assert key in DEFAULTS[section]


@pytest.mark.parametrize("stack", ["blue", "worker", "dimse"])
def test_a_value_is_of_the_type_of_its_setting(stack):
    for name, value in environment(stack).items():
        section, key = name.removeprefix("CUSPID_").lower().split("__")
        default = DEFAULTS[section][key]
        assert isinstance(value, str | dict), name
        if isinstance(value, str) and isinstance(default, bool):
            assert value in ("true", "false"), name
        elif isinstance(value, str) and isinstance(default, int):
            assert value.isdigit(), name


def test_all_processes_use_the_same_stores():
    shared = [
        {name: value for name, value in environment(stack).items() if SHARED.match(name)}
        for stack in ("blue", "worker", "dimse")
    ]
    assert len(shared[0]) >= 10
    assert shared[0] == shared[1] == shared[2]


def test_servers_leave_jobs_to_workers_and_let_nobody_in_without_a_token():
    for stack in ("blue", "dimse"):
        assert environment(stack)["CUSPID_JOBS__IN_SERVER"] == "false"
        assert environment(stack)["CUSPID_AUTH__ISSUER"] == {"Ref": "OidcIssuer"}
        assert "CUSPID_AUTH__ALLOW_ANONYMOUS" not in environment(stack)
    issuer = yaml.load(deploy.read_template("blue"), deploy.Loader)["Parameters"]["OidcIssuer"]
    assert re.fullmatch(issuer["AllowedPattern"], "") is None


def test_the_server_waits_longer_than_the_load_balancer_and_stops_before_it_is_killed():
    template = yaml.load(deploy.read_template("service"), deploy.Loader)["Resources"]["LoadBalancer"]["Properties"]
    attributes = {pair["Key"]: pair["Value"] for pair in template["LoadBalancerAttributes"]}
    web = environment("blue")
    assert int(web["CUSPID_HTTP__IDLE_TIMEOUT_SECONDS"]) > int(attributes["idle_timeout.timeout_seconds"])
    for stack in ("blue", "dimse"):
        task = yaml.load(deploy.read_template(stack), deploy.Loader)["Resources"]["TaskDefinition"]["Properties"]
        (container,) = task["ContainerDefinitions"]
        assert int(environment(stack)["CUSPID_HTTP__SHUTDOWN_TIMEOUT_SECONDS"]) < container["StopTimeout"] <= 120
