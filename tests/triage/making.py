"""Short ways to make frames, errors, failures, traces and analyses by hand, and by hypothesis."""

from __future__ import annotations

import itertools

import msgspec
from hypothesis import strategies as st

from pytest_tracetriage.model.analysis import Source
from pytest_tracetriage.model.trace import Error, Failure, Frame, Trace
from pytest_tracetriage.triage.analyze import Given, analyze
from pytest_tracetriage.triage.summary import Summary, merge, summarize

_ids = itertools.count(1)


def frame(place="shop/cart.py:total", line=10, origin=None, **more):
    """A frame of `file:function`; what lies in tests/ is the tests' own."""
    file, _, function = place.partition(":")
    return Frame(file, function, line, origin or ("test" if file.startswith("tests/") else "app"), **more)


def error(type_, message="", *places, **more):
    """An error with frames, outermost first, each a frame or its place."""
    frames = [p if isinstance(p, Frame) else frame(p) for p in places]
    # From a list: on Python 3.10 an empty tuple() of a generator is not the one () that msgspec leaves out as the default.
    return Error(type_, message, tuple(frames), **more)


def failure(*errors, phase="call", **more):
    return Failure(phase, tuple(errors), **more)


def fails(nodeid, *errors, **more):
    """The trace of a failing test."""
    kept = {name: more.pop(name) for name in ("phase", "fixture", "text", "uncalled") if name in more}
    found = failure(*errors, **kept)
    outcome = more.pop("outcome", "failed" if found.phase == "call" else "error")
    return Trace(id=f"t{next(_ids)}", nodeid=nodeid, outcome=outcome, failure=found, **more)


def passes(nodeid, **more):
    return Trace(id=f"t{next(_ids)}", nodeid=nodeid, outcome="passed", **more)


def source(name="run"):
    return Source(id=name, format="tracetriage", path=name)


def summary_of(traces, shard="run", watch=frozenset()):
    return summarize(traces, shard, source(shard), frozenset(watch))


def analysis_of(*traces, watch=frozenset(), texts=None, **given):
    """The analysis of traces as one shard. `texts` is (first line, source) by content hash."""
    summary = summary_of(traces, watch=watch)
    summary.texts.update(texts or {})
    return analyze(summary, Given(**given))


def grouped(analysis):
    """The clusters as sets of tests: what counts when names and order do not."""
    return {frozenset(cluster.tests) for cluster in analysis.clusters if cluster.seen != "fixed"}


def whys(analysis):
    return {why.evidence for cluster in analysis.clusters for why in cluster.why}


def lines_of(traces):
    return [msgspec.json.encode(trace) for trace in traces]


def same(*summaries):
    """Whether summaries hold the same of signatures, tests, samples, totals, problems and red traces."""
    return all(_plain(summary) == _plain(summaries[0]) for summary in summaries)


def _plain(summary: Summary):
    return (
        {name: vars(found) for name, found in summary.signatures.items()},
        summary.totals,
        summary.sources,
        summary.problems,
        summary.passed,
        summary.texts,
        summary.red,
    )


def findings(summary: Summary):
    """Signatures with their tests and samples: what may not depend on how traces were dealt to shards."""
    return {name: vars(found) for name, found in summary.signatures.items()}


def merged(shards):
    return merge(*[summary_of(traces, f"shard{number}") for number, traces in enumerate(shards)])


NODEIDS = [f"tests/test_{file}.py::test_{name}" for file in "ab" for name in "pqrs"] + ["tests/test_é.py::test_ü[a|b]"]
_types = st.sampled_from(["KeyError", "ValueError", "shop.errors.Broken", "AssertionError", "ConnectionRefusedError"])
_messages = st.sampled_from(
    ["", "'sku'", "'price'", "expected 3, got 4", "expected 5, got 6", "zwei\nZeilen", "127.0.0.1:5432 refused", "\x00\x1b[31m"]
)
_places = st.sampled_from(["shop/cart.py:total", "shop/price.py:add", "tests/test_a.py:test_p", "tests/test_b.py:test_q"])
_frames = st.builds(frame, _places, st.integers(1, 3))


@st.composite
def errors(draw):
    found = [Error(draw(_types), draw(_messages), tuple(draw(st.lists(_frames, max_size=3))))]
    for number in range(draw(st.integers(0, 2))):
        link = draw(st.sampled_from(["cause", "context", "member"]))
        frames = tuple(draw(st.lists(_frames, max_size=2)))
        found.append(Error(draw(_types), draw(_messages), frames, link=link, parent=draw(st.integers(0, number))))
    return tuple(found)


def failures(phases=("collect", "setup", "call", "teardown")):
    return st.one_of(
        st.builds(Failure, st.sampled_from(phases), errors()),
        st.builds(Failure, st.sampled_from(phases), st.just(()), text=_messages),
    )


@st.composite
def traces(draw):
    red = draw(st.booleans())
    outcomes = ["failed", "error", "timeout", "crashed", "stuck"] if red else ["passed", "skipped", "xfailed", "xpassed"]
    found = draw(failures()) if red else None
    return Trace(
        id=f"h{draw(st.integers(1, 10**6))}",
        nodeid=draw(st.sampled_from(NODEIDS)),
        outcome=draw(st.sampled_from(outcomes)),
        start=draw(st.sampled_from([0.0, 1.5, 2.5, 1e9])),
        rerun=red and draw(st.integers(0, 4)) == 0,
        subtest=draw(st.sampled_from(["", "", "", "[one]", "(i=2)"])),
        failure=found,
        later=tuple(draw(st.lists(failures(("teardown",)), max_size=1))) if red and found.phase == "call" else (),
    )
