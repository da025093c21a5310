"""Alarms and the dashboard."""

import json

import pytest

ALARMS = {
    "server-errors", "latency", "no-healthy-host", "unhealthy-blue", "unhealthy-green", "unhealthy-dimse", "failed-jobs",
    "old-jobs", "table-throttles", "key-errors", "error-lines",
}


def alarms(environment):
    found = environment.client("cloudwatch").describe_alarms()["MetricAlarms"]
    return {alarm["AlarmName"].split("-", 2)[2]: alarm for alarm in found}


def test_all_are_there_and_tell_somebody(production):
    assert set(alarms(production)) == ALARMS
    for alarm in alarms(production).values():
        assert alarm["AlarmActions"] == [production.outputs()["TopicArn"]]
        assert alarm["AlarmDescription"]
    (subscription,) = production.resources("alarms", "AWS::SNS::Subscription").values()
    assert subscription["Properties"]["Endpoint"] == production.settings["parameters"]["AlarmEmail"]
    topic = production.client("sns").get_topic_attributes(TopicArn=production.outputs()["TopicArn"])["Attributes"]
    assert topic["KmsMasterKeyId"] == production.outputs()["KeyArn"]


@pytest.mark.parametrize(
    ("name", "metric", "dimensions"),
    [
        ("latency", "TargetResponseTime", {"LoadBalancer": "LoadBalancerName"}),
        ("unhealthy-blue", "UnHealthyHostCount", {"LoadBalancer": "LoadBalancerName", "TargetGroup": "BlueTargetsName"}),
        ("unhealthy-dimse", "UnHealthyHostCount", {"LoadBalancer": "DimseBalancerName", "TargetGroup": "DimseTargetsName"}),
        ("failed-jobs", "ApproximateNumberOfMessagesVisible", {"QueueName": "DeadLetterQueueName"}),
        ("old-jobs", "ApproximateAgeOfOldestMessage", {"QueueName": "QueueName"}),
    ],
)
def test_an_alarm_looks_at_what_was_made(production, name, metric, dimensions):
    alarm = alarms(production)[name]
    assert alarm["MetricName"] == metric
    found = {dimension["Name"]: dimension["Value"] for dimension in alarm["Dimensions"]}
    assert found == {key: production.outputs()[output] for key, output in dimensions.items()}


def test_throttles_of_the_table_and_of_each_index_count(production):
    metrics = production.resources("alarms")["TableThrottles"]["Properties"]["Metrics"]
    assert len(metrics) <= 10
    seen = set()
    for metric in metrics[:-1]:
        dimensions = {pair["Name"]: pair["Value"] for pair in metric["MetricStat"]["Metric"]["Dimensions"]}
        assert dimensions["TableName"] == production.outputs()["TableName"]
        seen.add((metric["MetricStat"]["Metric"]["MetricName"], dimensions.get("GlobalSecondaryIndexName")))
    assert seen == {("ReadThrottleEvents", None), ("WriteThrottleEvents", None)} | {
        ("WriteThrottleEvents", f"GSI{number}") for number in range(1, 6)
    }


def test_errors_are_counted_in_both_logs(production):
    for group in ("/cuspid/prod/serve", "/cuspid/prod/worker"):
        filters = production.client("logs").describe_metric_filters(logGroupName=group)["metricFilters"]
        found = {change["metricName"] for filter_ in filters for change in filter_["metricTransformations"]}
        assert found == {"ErrorLines", "KeyErrors"}


def test_the_dashboard_shows_what_was_made(production):
    client = production.client("cloudwatch")
    body = json.loads(client.get_dashboard(DashboardName="cuspid-prod-eu-central-1")["DashboardBody"])
    assert len(body["widgets"]) == 7
    text = json.dumps(body)
    assert "${" not in text
    for name in ("LoadBalancerName", "BlueTargetsName", "QueueName", "DeadLetterQueueName", "TableName"):
        assert production.outputs()[name] in text
