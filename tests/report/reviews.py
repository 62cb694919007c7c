"""Reviews made by hand: the pull request that the pictures show, and builders for others."""

from __future__ import annotations

import hashlib
from base64 import b32encode

from msgspec.structs import replace

from pytest_tracetriage.model.analysis import Analysis, Bucket, Cluster, Exemplar, Frequency, Signature, Suspect, Why
from pytest_tracetriage.model.diagnosis import Culprit, EvidencePoint, Pattern, Share
from pytest_tracetriage.model.history import Baseline
from pytest_tracetriage.model.review import Diagnosed, Leg, Review
from pytest_tracetriage.model.run import Totals
from pytest_tracetriage.model.trace import Error, Failure, Frame

COMMIT = "4be1d20c6ef2e1b08d1d2a2d6d5d21e6ab6b5f10"
PAGES = "https://github.com/acme/shop/blob/" + COMMIT + "/"
FILES = (
    "shop/cart.py",
    "shop/cache.py",
    "shop/vat.py",
    "shop/price.py",
    "shop/pay.py",
    "shop/mail.py",
    "shop/search.py",
    "shop/clock.py",
    "shop/export.py",
    "tests/conftest.py",
    "tests/test_cart.py",
    "tests/test_price.py",
)


def identity(name):
    return b32encode(hashlib.sha256(name.encode()).digest()).decode()[:26]


def cause(name, place, count, seen="new", **fields):
    """A cluster by its name, with a traceback that ends at `place` (`file:line function code`)."""
    where, function, code = place.split(" ", 2)
    file, line = where.rsplit(":", 1)
    kind, _, message = name.partition(" in ")
    message = message.partition(": ")[2]
    test = f"tests/test_{file.rsplit('/', 1)[-1].removesuffix('.py')}.py"
    tests = tuple(f"{test}::test_{function.rsplit('.', 1)[-1].strip('_')}[{n}]" for n in range(count))
    frames = (
        Frame(test, tests[0].partition("::")[2].partition("[")[0], 12, "test", f"assert {function}(order) == 3"),
        Frame(file, function.rsplit(".", 1)[-1], int(line), "app", code, function),
    )
    base = Cluster(
        id=identity(name),
        name=name,
        category="DATA_SHAPE",
        owner="product",
        codeowners=(),
        seen=seen,
        muted=None,
        count=count,
        tests=tests,
        signatures=(Signature(identity(name), kind, file, function, message, count),),
        why=(Why("same signature", f"{kind} · {file}:{function} · {message}"),),
        suspects=(Suspect(file, function, int(line), 0.97, f"in the traceback of {count} of {count} tests"),),
        exemplar=Exemplar(tests[0], Failure("call", (Error(kind, message, frames),))),
        classified=f"type {kind}",
        fix="check what the data looks like before it is used",
        status="real",
    )
    return replace(base, **fields)


def pattern(name, of="test", kind="FLAKY", subject=None, words="fails 14 % [6, 27] of attempts: 6 at 5 commits", **fields):
    """A pattern whose every text that comes from outside is `name`."""
    point = EvidencePoint(name, name, 1795148000.0, 1, 1)
    made = Pattern(
        kind,
        f"{kind}-1",
        of,
        subject or name,
        name,
        0.97,
        Share(6, 43, 0.14, 0.06, 0.27),
        (point,),
        5,
        point,
        1795148000.0,
        words,
    )
    return replace(made, **fields)


def review(*clusters, retried=(), **fields):
    count = sum(each.count for each in clusters if each.seen != "fixed")
    tests = fields.pop("tests", 812)
    totals = fields.pop("totals", Totals(tests=tests, passed=tests - count, failed=count, failures=count))
    kept = [each for each in clusters if each.seen != "fixed" and each.muted is None]
    names = dict.fromkeys(f"{each.owner}: {each.category.lower()}" for each in kept)
    buckets = tuple(
        Bucket(
            name,
            sum(each.count for each in kept if f"{each.owner}: {each.category.lower()}" == name),
            tuple(each.id for each in kept if f"{each.owner}: {each.category.lower()}" == name),
        )
        for name in names
    )
    known = {
        "commit": COMMIT,
        "branch": "rename-sku",
        "base": "main",
        "event": "pull_request",
        "pull_request": 42,
        "repository": "acme/shop",
        "workflow": "tests",
        "ci_run": 1234567890,
        "url": "https://github.com/acme/shop/actions/runs/1234567890",
        "links": {name: PAGES + name for name in FILES},
    }
    return Review(Analysis((), totals, buckets, clusters, ()), retried=tuple(retried), **{**known, **fields})


def shards(tests=812, failures=40, count=4, died=()):
    return tuple(
        Leg(
            run=f"20261120T04300{number}Z-7f3a9c",
            job=f"tests ({number + 1})",
            leg="",
            python="3.14.0",
            platform="linux",
            totals=Totals(tests=tests // count, passed=(tests - failures) // count, failures=failures // count),
            duration=192.0 - 11 * number,
            finished=number not in died,
        )
        for number in range(count)
    )


MAIN = Baseline("main", "a41f2c9d0b7fd1b3bb5a59a5c2b1e9a6a0c9d3e1", 61, 809, 805, 185.0, 1795148000.0)


def target(**fields):
    """3 new, 5 known and 2 flaky causes over 4 shards."""
    clusters = (
        cause(
            "KeyError in Cart.total: missing 'sku'",
            "shop/cart.py:88 Cart.total return prices[item['sku']]",
            18,
            codeowners=("@acme/carts",),
            since=COMMIT,
            status_evidence="fails 5 of 5 alone and in context",
        ),
        cause(
            "ConnectionRefusedError in Cache.connect: 127.0.0.1:6379",
            "shop/cache.py:41 Cache.connect sock.connect((self.host, self.port))",
            9,
            status="infrastructure",
            owner="infrastructure",
            category="NETWORK",
            since=COMMIT,
        ),
        cause(
            "AssertionError in Vat.rate: 0.19 != 0.07",
            "shop/vat.py:23 Vat.rate return RATES[country]",
            2,
            codeowners=("@acme/tax",),
            category="ASSERTION",
            since=COMMIT,
        ),
        cause(
            "TypeError in Price.__add__: None + Decimal",
            "shop/price.py:31 Price.__add__ return Price(self.amount + other.amount)",
            3,
            "known",
            runs=6,
            since="a41f2c9d0b7fd1b3bb5a59a5c2b1e9a6a0c9d3e1",
            codeowners=("@acme/pricing",),
        ),
        cause(
            "UnicodeDecodeError in read_feed: 'utf-8' codec can't decode byte 0xe4",
            "shop/export.py:120 read_feed return path.read_text()",
            2,
            "known",
            runs=31,
            since="77d0e1f1c2b3a49586f7081920a1b2c3d4e5f607",
        ),
        cause(
            "AttributeError in Search.rank: 'NoneType' object has no attribute 'score'",
            "shop/search.py:64 Search.rank return hit.score",
            2,
            "known",
            runs=12,
            since="0c9d3e1a41f2c9d0b7fd1b3bb5a59a5c2b1e9a6a",
            codeowners=("@acme/search",),
        ),
        cause(
            "SMTPServerDisconnected in Mailer.send: Connection unexpectedly closed",
            "shop/mail.py:52 Mailer.send self.smtp.send_message(mail)",
            1,
            "known",
            runs=4,
            since="5a59a5c2b1e9a6a0c9d3e1a41f2c9d0b7fd1b3bb",
            status="infrastructure",
            owner="infrastructure",
            category="NETWORK",
        ),
        cause(
            "DeprecationWarning in parse_date: use datetime.now(UTC)",
            "shop/clock.py:9 parse_date return datetime.utcnow()",
            1,
            "known",
            runs=58,
            since="d1d2a2d6d5d21e6ab6b5f104be1d20c6ef2e1b08",
        ),
        cause(
            "TimeoutError in Checkout.pay",
            "shop/pay.py:12 Checkout.pay return self.gateway.charge(order)",
            1,
            "known",
            runs=6,
            status="flaky",
            status_evidence="passed and failed on one commit",
            frequency=Frequency(6, 43),
            codeowners=("@acme/payments",),
        ),
    )
    again = cause(
        "AssertionError in test_freeze: clock moved",
        "shop/clock.py:30 Clock.now return self._now",
        1,
        "known",
        runs=3,
        status="flaky",
        frequency=Frequency(3, 60),
        category="ASSERTION",
    )
    since = Culprit(
        clusters[0].id,
        clusters[0].name,
        clusters[0].tests[:1],
        "commit",
        "9f31c07ab5d4e2f1c0b9a8978695a4b3c2d1e0f9",
        0.997,
        ("failed in 6 of 6 processes from 9f31c07ab5d4 on (3 of 3 there)", "failed in 0 of 6 processes before it"),
        "Rename sku to item_id",
        rate=1.0,
    )
    diagnosed = {clusters[0].id: Diagnosed(rerun=True, culprits=(since,), brought=True)}
    diagnosed |= {clusters[number].id: Diagnosed(rerun=True) for number in (1, 2)}
    fields = {"diagnosed": diagnosed, **fields}
    return review(*clusters, retried=(again,), **{"legs": shards(), "baseline": MAIN, **fields})
