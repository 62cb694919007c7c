"""A plugin for TraceTriage that uses every extension point. The how-to `docs/how-to/extend.md` explains it.

`tracetriage` finds it by `plugins = ["shop_rules"]` in `[tool.tracetriage]`, pytest by `-p shop_rules`. A hook takes only
the arguments that it needs, as everywhere in pytest.
"""

import json
import re

from pytest_tracetriage.collect.formats import Format
from pytest_tracetriage.model.analysis import Problem
from pytest_tracetriage.model.trace import Error, Failure, Trace

CUSTOMER_NUMBER = re.compile(r"\bC-\d{6}\b")


def pytest_tracetriage_formats():
    """Read the log of a smoke test: JSON lines such as {"check": "login", "ok": false, "said": "TimeoutError: 5 s"}."""
    return [Format("smoke", sniff_smoke, read_smoke)]


def sniff_smoke(head):
    """Say from the first bytes whether a file is such a log."""
    return head.lstrip().startswith(b'{"check":')


def read_smoke(file, name):
    """Yield one trace a line; what cannot be read is a problem with its line, and the rest is kept."""
    for number, line in enumerate(file, start=1):
        if not line.strip():
            continue
        try:
            entry = json.loads(line)
            nodeid, passed, said = f"smoke::{entry['check']}", entry["ok"], entry.get("said", "")
        except (ValueError, KeyError, TypeError) as error:
            yield Problem(name, number, f"not an entry of a smoke log: {error}")
            continue
        failure = None
        if not passed:
            kind, _, message = said.partition(": ")
            failure = Failure(phase="call", errors=(Error(type=kind or "Failed", message=message),))
        yield Trace(id=f"smoke.{number}", nodeid=nodeid, outcome="passed" if passed else "failed", failure=failure)


def pytest_tracetriage_redact(text):
    """Customers' numbers stay out of the records."""
    return CUSTOMER_NUMBER.sub("[customer]", text)


def pytest_tracetriage_classify(failure):
    """A price that cannot be read is a fault of the catalogue, whatever raised it."""
    for error in failure.errors:
        if error.type == "KeyError" and error.message == "'unit_price'":
            return "PRICING", "product", "shop_rules: the key 'unit_price' of a quote"
    return None


def pytest_tracetriage_join(signatures):
    """Reports read the same key with `.get`: they fail without an error that says so."""
    readers = [one.id for one in signatures if "unit_price" in one.message or one.file == "tests/test_reports.py"]
    return [(readers[0], other, "shop_rules: both read the prices of quotes") for other in readers[1:]]


def pytest_tracetriage_notify(analysis):
    """Tell the owners of new causes. This one only prints."""
    for cluster in analysis.clusters:
        if cluster.seen in {"new", "first-run"} and cluster.muted is None:
            print(f"notify {cluster.owner}: {cluster.name} ({cluster.count})")
