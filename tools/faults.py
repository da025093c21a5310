"""Faults of S3 and DynamoDB: plans that choose the requests, and the error answers of the services."""

import json
import random
import re
import threading
from collections.abc import Callable
from dataclasses import dataclass

# The kinds of faults.
ERROR = "answered with an error, and not passed on"
PARTIAL = "answered with success, of which the body says that nothing was done, and not passed on"
CUT_BEFORE = "cut before it is passed on"
CUT_REQUEST = "cut in the middle of its body"
CUT_AFTER = "carried out, and cut before the answer"
CUT_ANSWER = "carried out, and cut in the middle of the answer"
DELAY_BEFORE = "late to arrive"
DELAY_AFTER = "carried out, and answered late"
KINDS = [ERROR, PARTIAL, CUT_BEFORE, CUT_REQUEST, CUT_AFTER, CUT_ANSWER, DELAY_BEFORE, DELAY_AFTER]


@dataclass
class Fault:
    kind: str
    delay_seconds: float = 0.0
    # The number by which one of the errors of a service is chosen.
    choice: int = 0
    # Whether the request is carried out before the connection is cut.
    then: Callable = lambda: None


@dataclass
class Request:
    """The properties of a request by which faults are chosen and requests counted."""

    number: int
    method: str
    target: str
    headers: dict
    body: bytes
    fault: Fault | None = None
    status: int | None = None

    @property
    def operation(self) -> str:
        """DynamoDB's name of the operation, for example `Query`; empty for S3."""
        return self.headers.get("x-amz-target", "").rpartition(".")[2]

    def __str__(self) -> str:
        what = self.operation or f"{self.method} {self.target} {self.headers.get('range', '')}".strip()
        return f"{self.number}: {what}: {self.fault.kind if self.fault else self.status}"


class Random:
    """A fault of any of `kinds` for this share of requests; the same for the same seed and order of requests."""

    def __init__(self, seed: str, share: float, longest_delay_seconds: float, kinds: list = KINDS):
        self.random, self.share = random.Random(seed), share
        self.longest_delay_seconds, self.kinds = longest_delay_seconds, kinds

    def __call__(self, _request: Request) -> Fault | None:
        if self.random.random() >= self.share:
            return None
        # Short delays are the most frequent.
        delay = self.longest_delay_seconds * self.random.random() ** 3
        return Fault(self.random.choice(self.kinds), delay, self.random.randrange(100))


class Nth:
    """One fault for the request of this number from now, counted from one over all proxies that have this plan."""

    def __init__(self, nth: int, fault: Fault):
        self.left, self.fault, self.request = nth, fault, None
        self.lock = threading.Lock()

    def __call__(self, request: Request) -> Fault | None:
        with self.lock:
            self.left -= 1
            if self.left != 0:
                return None
            self.request = request
            return self.fault


def s3_error(request: Request, choice: int) -> tuple:
    """Status, content type and body of an error of S3."""
    status, code = [(500, "InternalError"), (503, "SlowDown"), (503, "ServiceUnavailable")][choice % 3]
    return status, "application/xml", s3_error_body(code)


def s3_error_body(code: str) -> bytes:
    text = f"<Error><Code>{code}</Code><Message>a fault</Message><RequestId>1</RequestId></Error>"
    return f'<?xml version="1.0" encoding="UTF-8"?>\n{text}'.encode()


def s3_partial(request: Request) -> tuple | None:
    """An error answer with status 200, for the requests to which S3 gives such answers."""
    if request.method == "POST" and re.search(r"[?&]delete\b", request.target):
        keys = re.findall(rb"<Key>(.*?)</Key>", request.body, re.DOTALL)
        errors = b"".join(b"<Error><Key>%s</Key><Code>InternalError</Code></Error>" % key for key in keys)
        body = b'<DeleteResult xmlns="http://s3.amazonaws.com/doc/2006-03-01/">%s</DeleteResult>' % errors
    elif (request.method == "POST" and "uploadId=" in request.target) or "x-amz-copy-source" in request.headers:
        body = s3_error_body("InternalError")
    else:
        return None
    return 200, "application/xml", body


def dynamodb_error(request: Request, choice: int) -> tuple:
    """Status, content type and body of an error of DynamoDB."""
    status, code = [
        (400, "com.amazonaws.dynamodb.v20120810#ProvisionedThroughputExceededException"),
        (400, "com.amazon.coral.availability#ThrottlingException"),
        (500, "com.amazonaws.dynamodb.v20120810#InternalServerError"),
        (503, "com.amazonaws.dynamodb.v20120810#ServiceUnavailable"),
    ][choice % 4]
    return dynamodb_answer(status, {"__type": code, "message": "a fault"})


def dynamodb_answer(status: int, body: dict) -> tuple:
    return status, "application/x-amz-json-1.0", json.dumps(body).encode()


def dynamodb_partial(request: Request) -> tuple | None:
    """The answers for a batch of which nothing was processed, and for a transaction that conflicts with another one."""
    asked = json.loads(request.body or b"{}")
    if request.operation == "BatchGetItem":
        return dynamodb_answer(200, {"Responses": {}, "UnprocessedKeys": asked["RequestItems"]})
    if request.operation == "BatchWriteItem":
        return dynamodb_answer(200, {"UnprocessedItems": asked["RequestItems"]})
    if request.operation not in ("TransactWriteItems", "TransactGetItems"):
        return None
    reasons = [{"Code": "None"} for _ in asked["TransactItems"]]
    reasons[-1] = {"Code": "TransactionConflict", "Message": "Transaction is ongoing for the item"}
    said = "Transaction cancelled, please refer cancellation reasons for specific reasons"
    codes = ", ".join(reason["Code"] for reason in reasons)
    error = {"__type": "com.amazonaws.dynamodb.v20120810#TransactionCanceledException"}
    return dynamodb_answer(400, error | {"message": f"{said} [{codes}]", "CancellationReasons": reasons})


def answer(service: str, request: Request, fault: Fault) -> tuple:
    """Status, content type and body with which the service (`s3` or `dynamodb`) refuses the request."""
    partial, error = {"s3": (s3_partial, s3_error), "dynamodb": (dynamodb_partial, dynamodb_error)}[service]
    return (fault.kind == PARTIAL and partial(request)) or error(request, fault.choice)
