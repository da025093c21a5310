"""Environments in moto: one to look at, that no test changes, and others to work on."""

from itertools import count

import pytest
from emulated import Environment


@pytest.fixture(scope="session")
def production():
    """Everything of prod in eu-central-1. Not to be changed."""
    environment = Environment("prod-eu-central-1.yaml")
    environment.deploy_all()
    yield environment
    environment.stop()


ACCOUNTS = count(200000000000)


@pytest.fixture
def development():
    """dev in us-east-1, of which nothing is made yet."""
    environment = Environment("dev-us-east-1.yaml", str(next(ACCOUNTS)))
    yield environment
    environment.stop()
