"""Follows the feed of changes of a fleet beside its clients, kills and faults: what it says must be possible, and in the end true."""

import random
import threading
import time

import requests

PAUSE_SECONDS = 0.05
PAGE_SECONDS = 60


class FeedReader(threading.Thread):
    """Reads pages from any node, each from the place after the one before, and keeps the instances that exist by the feed alone."""

    def __init__(self, nodes: list):
        super().__init__(daemon=True)
        self.nodes, self.after, self.pages = nodes, None, 0
        # The instances by study.
        self.there, self.faults = {}, []
        self.is_over = threading.Event()

    def run(self) -> None:
        while not self.is_over.is_set():
            self.read()
            time.sleep(PAUSE_SECONDS)

    def read(self) -> bool:
        """Reads a page; whether that was possible and there may be more."""
        node = random.choice(self.nodes)
        parameters = {"limit": random.choice([1, 7, 100])} | ({"after": self.after} if self.after else {})
        url = f"{node.url.removesuffix('/dicom-web')}/changes"
        try:
            answer = requests.get(url, params=parameters, timeout=PAGE_SECONDS)
        except requests.RequestException:
            return True
        if answer.status_code >= 500:
            return True
        if answer.status_code != 200:
            self.faults.append(f"{url} {parameters}: {answer.status_code} {answer.text[:200]}")
            return False
        page = answer.json()
        for change in page["changes"]:
            self.follow(change)
        self.after, self.pages = page["next"], self.pages + 1
        return page["more"] or bool(page["changes"])

    def follow(self, change: dict) -> None:
        there = self.there.setdefault(change["study"], set())
        for instance in change.get("instances", []):
            expected = change["event"] != "stored"
            if (instance in there) != expected:
                self.faults.append(f"{instance} is {'not ' * expected}there and {change['event']}")
            (there.discard if change["event"] == "deleted" else there.add)(instance)
        if change.get("gone") == "study" and there:
            self.faults.append(f"study {change['study']} is gone and has {len(there)} instances")

    def finish(self) -> None:
        """Reads until there are no further changes: a gap is filled after some seconds."""
        self.is_over.set()
        self.join()
        quiet_since = time.monotonic()
        while time.monotonic() - quiet_since < 8 and not self.faults:
            if self.read():
                quiet_since = time.monotonic()
            time.sleep(PAUSE_SECONDS)

    def differences(self, there: dict) -> list:
        """The differences between the feed and the instances of studies that there are."""
        found = list(self.faults)
        for study, instances in there.items():
            by_feed = self.there.get(study, set())
            found += [f"{instance} is there and not by the feed" for instance in sorted(instances - by_feed)]
            found += [f"{instance} is not there but by the feed" for instance in sorted(by_feed - instances)]
        return found
