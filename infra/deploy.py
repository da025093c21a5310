#!/usr/bin/env python3
"""Makes or updates the stacks of one environment in one region, in order. Needs boto3 and PyYAML.

    infra/deploy.py infra/parameters/dev-eu-central-1.yaml [STACK...] [--set Name=Value]...

The value of a template's parameter is the first of: `--set`; the parameter file; an output of that name of another stack of the
environment; what the stack was once given; the template's default. So what is set by hand (an image, a weight) stays until it
is set again, a default that changes with a version takes effect, and stacks need no names of each other.
"""

import argparse
import json
import sys
from pathlib import Path

import boto3
import yaml
from botocore.exceptions import ClientError, WaiterError

TEMPLATES = Path(__file__).parent / "templates"

# Stacks that are made of another template than that of their name, and what is then to be said.
COLOURS = {"blue": {"Colour": "blue"}, "green": {"Colour": "green"}}

# A mistake in a template must not replace what holds images or rows, whatever else protects them.
KEEP_WHAT_IS_STORED = json.dumps({
    "Statement": [
        {"Effect": "Allow", "Principal": "*", "Action": "Update:*", "Resource": "*"},
        {"Effect": "Deny", "Principal": "*", "Action": ["Update:Replace", "Update:Delete"], "Resource": "*",
         "Condition": {"StringEquals": {"ResourceType": [
             "AWS::S3::Bucket", "AWS::DynamoDB::Table", "AWS::KMS::Key"]}}},
    ]
})


class Loader(getattr(yaml, "CSafeLoader", yaml.SafeLoader)):
    """YAML with CloudFormation's short forms, as in `!Ref Name`."""


def _short_form(loader, suffix, node):
    if isinstance(node, yaml.ScalarNode):
        value = loader.construct_scalar(node)
    elif isinstance(node, yaml.SequenceNode):
        value = loader.construct_sequence(node, deep=True)
    else:
        value = loader.construct_mapping(node, deep=True)
    if suffix == "GetAtt" and isinstance(value, str):
        value = value.split(".", 1)
    return {suffix if suffix in ("Ref", "Condition") else f"Fn::{suffix}": value}


Loader.add_multi_constructor("!", _short_form)


def template_path(stack):
    """Where the template of a stack is."""
    return TEMPLATES / f"{'colour' if stack in COLOURS else stack}.yaml"


def read_template(stack):
    """The text of a stack's template."""
    return template_path(stack).read_text()


def main(arguments):
    """Carries out the command line; the exit status."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("file", type=Path, help="parameter file")
    parser.add_argument("stack", nargs="*", help="stacks to deploy; all that the file lists, if none is named")
    parser.add_argument("--set", action="append", default=[], metavar="NAME=VALUE", help="a parameter, above all others")
    parser.add_argument("--endpoint-url", help="another CloudFormation than Amazon's")
    options = parser.parse_args(arguments)
    settings = yaml.safe_load(options.file.read_text())
    overrides = dict(pair.split("=", 1) for pair in options.set)
    client = boto3.client("cloudformation", region_name=settings["region"], endpoint_url=options.endpoint_url)
    try:
        deploy(client, settings, options.stack or settings["stacks"], overrides)
    except Refused as refused:
        print(refused, file=sys.stderr)
        return 1
    return 0


class Refused(Exception):
    """Why a deployment was not begun, or did not end well, in words for whoever asked for it."""


def deploy(client, settings, stacks, overrides, read=read_template):
    """Makes or updates `stacks` one after the other. `read` gives the text of a stack's template.

    Raises Refused; stacks before the one at fault stay as they have become, that one is rolled back by CloudFormation.
    """
    parsed = {stack: yaml.load(read(stack), Loader) for stack in stacks}
    known = set().union(*(template["Parameters"] for template in parsed.values()))
    for name in overrides.keys() - known:
        raise Refused(f"no parameter {name} in {', '.join(stacks)}")
    for stack in stacks:
        name = f"cuspid-{settings['environment']}-{stack}"
        before = _describe(client, name)
        given = _given_before(client, name, before) | outputs(client, settings["environment"]) | settings["parameters"]
        given |= {"Environment": settings["environment"]} | COLOURS.get(stack, {}) | overrides
        parameters = _parameters(stack, parsed[stack]["Parameters"], given)
        what = _create if before is None else _update
        print(f"{name}: {what(client, name, read(stack), parameters, settings)}", flush=True)


def _given_before(client, name, before):
    """What a stack's parameters were set to, but for those that had their default."""
    if before is None:
        return {}
    body = client.get_template(StackName=name)["TemplateBody"]
    slots = (yaml.load(body, Loader) if isinstance(body, str) else body)["Parameters"]
    had = {parameter["ParameterKey"]: parameter["ParameterValue"] for parameter in before.get("Parameters", [])}
    return {key: value for key, value in had.items() if value != str(slots[key].get("Default"))}


def _parameters(stack, slots, given):
    missing = [name for name, slot in slots.items() if name not in given and "Default" not in slot]
    if missing:
        raise Refused(f"{stack} needs {', '.join(missing)}: in the parameter file, by --set, or from a stack before it")
    return [{"ParameterKey": name, "ParameterValue": str(given[name])} for name in slots if name in given]


def _create(client, name, body, parameters, settings):
    protect = settings["parameters"].get("DeletionProtection") != "false"
    try:
        client.create_stack(
            StackName=name, TemplateBody=body, Parameters=parameters, Capabilities=["CAPABILITY_IAM"],
            StackPolicyBody=KEEP_WHAT_IS_STORED, EnableTerminationProtection=protect,
            Tags=[{"Key": "application", "Value": "cuspid"}, {"Key": "environment", "Value": settings["environment"]}],
        )
    except ClientError as error:
        raise Refused(f"{name}: {error}") from error
    _wait(client, "stack_create_complete", name)
    return "made"


def _update(client, name, body, parameters, _settings):
    try:
        client.update_stack(StackName=name, TemplateBody=body, Parameters=parameters, Capabilities=["CAPABILITY_IAM"])
    except ClientError as error:
        if "No updates are to be performed" in str(error):
            return "unchanged"
        raise Refused(f"{name}: {error}") from error
    _wait(client, "stack_update_complete", name)
    return "updated"


def _wait(client, state, name):
    try:
        client.get_waiter(state).wait(StackName=name, WaiterConfig={"Delay": 5, "MaxAttempts": 720})
    except WaiterError as error:
        raise Refused(f"{name}: {_reason(client, name)}") from error


def _reason(client, name):
    events = client.describe_stack_events(StackName=name)["StackEvents"]
    failed = [event for event in events if event["ResourceStatus"].endswith("_FAILED")]
    # The first failure is the cause; what comes after was cancelled for it. Events come newest first.
    first = failed[-1] if failed else events[0]
    return f"{first['LogicalResourceId']}: {first.get('ResourceStatusReason', first['ResourceStatus'])}"


def _describe(client, name):
    try:
        return client.describe_stacks(StackName=name)["Stacks"][0]
    except ClientError as error:
        if "does not exist" in str(error):
            return None
        raise


def outputs(client, environment):
    """What the stacks of an environment give, by name."""
    given = {}
    for page in client.get_paginator("describe_stacks").paginate():
        for stack in page["Stacks"]:
            if stack["StackName"].startswith(f"cuspid-{environment}-"):
                given |= {output["OutputKey"]: output["OutputValue"] for output in stack.get("Outputs", [])}
    return given


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
