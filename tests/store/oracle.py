"""What a history should answer, worked out from a plain list of runs as its documentation words each question."""

from __future__ import annotations

from collections import Counter, defaultdict

from pytest_tracetriage.model.analysis import Frequency
from pytest_tracetriage.model.history import Baseline, ClusterRun, Evidence, FlakyTest, Rate, Seen, SlowTest
from pytest_tracetriage.store.history.tables import bucket, seconds

RED = {"failed", "error", "timeout", "crashed", "stuck"}
PULLS = {"pull_request", "pull_request_target", "merge_group"}


class Oracle:
    """Answers from a list of condensed runs."""

    def __init__(self, items):
        self.items = sorted(items, key=by_time)

    def chosen(self, branch=None, since=0.0, exclude=""):
        return [
            item
            for item in self.items
            if (branch is None or (item.run.branch == branch and not item.run.pull_request and item.run.event not in PULLS))
            and item.run.started >= since
            and not (exclude and group(item).startswith(exclude))
        ]

    def seen(self, branch=None, since=0.0, exclude=""):
        groups = in_order(self.chosen(branch, since, exclude))
        said = [
            (number, item, record)
            for number, items in enumerate(groups)
            for item in items
            for record in sorted(item.clusters, key=lambda record: record.cluster.id)
        ]
        found = []
        for identity in {record.cluster.id for _, _, record in said if record.cluster.seen != "fixed"}:
            own = [(number, item, record, word(record)) for number, item, record in said if record.cluster.id == identity]
            shown = [row for row in own if row[3] != "fixed"]
            red = [row for row in own if row[3] == "red"]
            states = []
            for number in sorted({row[0] for row in own}):
                words = {row[3] for row in own if row[0] == number}
                states += ["red"] if "red" in words else ["fixed"] if "fixed" in words else []
            last = [row for row in red if row[0] == red[-1][0]]
            found.append(
                Seen(
                    cluster=(red or shown)[-1][2].cluster,
                    signatures=frozenset(signature.id for row in shown for signature in row[2].cluster.signatures),
                    tests=frozenset(test for row in last for test in row[2].tests),
                    first_run=shown[0][1].run.id,
                    first_commit=shown[0][1].run.commit,
                    first_time=shown[0][1].run.started,
                    last_run=shown[-1][1].run.id,
                    last_commit=shown[-1][1].run.commit,
                    last_time=shown[-1][1].run.started,
                    runs=len({row[0] for row in red}),
                    episodes=sum(
                        state == "red" and (not place or states[place - 1] == "fixed") for place, state in enumerate(states)
                    ),
                    open=states[-1:] == ["red"],
                    branches=frozenset(row[1].run.branch for row in shown) - {""},
                )
            )
        return sorted(found, key=lambda one: (one.first_time, one.first_run, one.cluster.id))

    def cluster_runs(self, identity):
        return tuple(
            ClusterRun(item.run, word(record), len(record.retried if word(record) == "retried" else record.tests))
            for items in in_order(self.items)
            for item in items
            for record in item.clusters
            if record.cluster.id == identity
        )

    def frequencies(self, asked, branch=None, groups=100):
        answer = {}
        for identity, tests in asked.items():
            ran = []
            for items in in_order(self.chosen(branch)):
                red = any(word(r) == "red" and r.cluster.id == identity for item in items for r in item.clusters)
                if red or any(test.nodeid in tests and test.outcome != "skipped" for item in items for test in item.tests):
                    ran.append(red)
            answer[identity] = Frequency(sum(ran[-groups:]), len(ran[-groups:]))
        return answer

    def evidence(self, asked, current=()):
        items = sorted([*self.items, *(item for item in current if item not in self.items)], key=by_time)
        newest = {spot(item): place for place, item in enumerate(items) if item.run.commit and not item.run.dirty}
        found = []
        for identity, tests in sorted(asked.items()):
            for nodeid in sorted(tests):
                for here in sorted(newest, key=newest.__getitem__, reverse=True):
                    same = [item for item in items if spot(item) == here and not item.run.dirty]
                    passed = sum(test.nodeid == nodeid and test.outcome == "passed" for item in same for test in item.tests)
                    failed = sum(attempts(item, identity, nodeid) for item in same)
                    if passed and failed:
                        found.append(Evidence(identity, nodeid, here[0], failed, passed))
                        break
        return found

    def baseline(self, branch, exclude="", workflow=""):
        chosen = [item for item in self.chosen(branch, exclude=exclude) if not workflow or item.run.workflow == workflow]
        found = [newest_attempts(items) for items in together(chosen, workflow_run)]
        whole = [items for items in found if all(i.run.finished > 0 and i.run.exit_status not in (2, 3, 4) for i in items)]
        if not whole:
            return None
        ended = defaultdict(set)
        for item in whole[-1]:
            for test in item.tests:
                ended[test.nodeid].add(test.outcome)
        return Baseline(
            branch=branch,
            commit=whole[-1][0].run.commit,
            groups=len(found),
            tests=len(ended),
            passed=sum("passed" in outcomes and not outcomes & RED for outcomes in ended.values()),
            duration=max(item.run.finished - item.run.started for item in whole[-1]),
            started=whole[-1][0].run.started,
            legs=tuple(sorted({(item.run.job, item.run.leg) for item in whole[-1]})),
        )

    def pass_rate(self, branch=None):
        return [
            Rate(
                items[0].run.started,
                group(items[0]),
                items[0].run.commit,
                sum(item.run.totals.tests for item in items),
                sum(item.run.totals.passed for item in items),
            )
            for items in map(newest_attempts, together(self.chosen(branch), workflow_run))
        ]

    def slow_tests(self, branch=None):
        took = defaultdict(list)
        for item in self.chosen(branch):
            for test in item.tests:
                if test.outcome != "skipped":
                    took[test.nodeid].append(bucket(test.duration))
        rows = [(middle(found, 0.5), middle(found, 0.95), nodeid, len(found)) for nodeid, found in took.items()]
        rows.sort(key=lambda row: (-row[0], -row[1], row[2]))
        return [SlowTest(nodeid, seconds(half), seconds(most), count) for half, most, nodeid, count in rows]

    def flaky_tests(self):
        failed, passed = Counter(), Counter()
        for item in self.items:
            for test in item.tests:
                if item.run.commit and not item.run.dirty and (test.outcome == "passed" or test.outcome in RED):
                    failed[test.nodeid, spot(item)] += test.retried + (test.outcome in RED)
                    passed[test.nodeid, spot(item)] += test.outcome == "passed"
        both = [key for key in failed if failed[key] and passed[key]]
        rows = [
            FlakyTest(
                nodeid,
                len({here[0] for test, here in both if test == nodeid}),
                sum(failed[key] for key in both if key[0] == nodeid),
                sum(passed[key] for key in both if key[0] == nodeid),
            )
            for nodeid in {key[0] for key in both}
        ]
        return sorted(rows, key=lambda test: (-test.commits, -test.failed, test.nodeid))


def by_time(item):
    return item.run.started, item.run.id


def group(item):
    return item.run.group or item.run.id


def workflow_run(item):
    run = item.run
    return (run.repository, run.workflow, run.ci_run) if run.ci_run else group(item)


def together(items, name):
    """Return the runs by that name, in order of the earliest of each."""
    found = {}
    for item in sorted(items, key=by_time):
        found.setdefault(name(item), []).append(item)
    return list(found.values())


def in_order(items):
    """Return the groups, each workflow run's one after the other: an old commit that is run again stays old."""
    first = {name: place for place, name in reversed(list(enumerate(map(workflow_run, sorted(items, key=by_time)))))}
    return sorted(together(items, group), key=lambda found: first[workflow_run(found[0])])


def newest_attempts(items):
    def leg(item):
        return item.run.job, item.run.leg

    return [item for item in items if item.run.attempt == max(i.run.attempt for i in items if leg(i) == leg(item))]


def spot(item):
    """Return what two runs must share before a difference between them means flaky."""
    return item.run.commit, item.run.environment or item.run.id


def word(record):
    return "fixed" if record.cluster.seen == "fixed" else "red" if record.tests else "retried"


def attempts(item, identity, nodeid):
    """Return how many attempts at a test failed by a cluster in a run: those before the last, and the last where it was red."""
    [again] = [test.retried for test in item.tests if test.nodeid == nodeid] or [0]
    for record in item.clusters:
        if record.cluster.id == identity and record.cluster.seen != "fixed":
            if nodeid in record.tests:
                return 1 + again
            if nodeid in record.retried:
                return max(1, again)
    return 0


def middle(found, share):
    """Return the smallest value that at least this share of all is no larger than."""
    found = sorted(found)
    return next(value for place, value in enumerate(found, 1) if place >= share * len(found))
