"""nose's `setup()`, which pytest 8 no longer calls: every test dies of another missing attribute, of one cause."""

from __future__ import annotations

import pytest
from capture.suite import Suite

LEFT_OUT = {
    "test_a": """
        class TestA:
            def setup(self):
                self.g = 1
                self.more()
            def more(self):
                self.deep = 2
            def test_g(self): assert self.g == 1
            def test_deep(self): assert self.deep == 2
        """,
    "test_b": """
        class Base:
            def setup(self):
                self.nodes = [1]
        class TestB(Base):
            def test_nodes(self): assert len(self.nodes) == 1
        """,
    "test_c": """
        def setup():
            global connection
            connection = 1
        def test_connection(): assert connection == 1
        def test_other(): assert str(connection)
        """,
}
CALLED = {
    "fixture": """
        import pytest
        class TestA:
            @pytest.fixture(autouse=True)
            def setup(self):
                self.g = 1
            def test_it(self): assert self.g.missing
            def test_own(self): assert self.missing
        """,
    "setup_method": """
        class TestA:
            def setup(self): self.g = 1
            def setup_method(self): pass
            def test_it(self): assert self.g
        """,
    "unittest": """
        import unittest
        class TestA(unittest.TestCase):
            def setup(self): self.g = 1
            def test_it(self): assert self.g
        """,
    "another attribute": """
        class TestA:
            def setup(self): self.g = 1
            def test_it(self): assert self.gg
        """,
    "another object": """
        class Thing: pass
        class TestA:
            def setup(self): self.g = 1
            def test_it(self): assert Thing().g
        """,
    "a helper with arguments": """
        class TestA:
            def setup(self, g): self.g = g
            def test_it(self): assert self.g
        """,
    "module fixture": """
        import pytest
        @pytest.fixture(autouse=True)
        def setup():
            global g
        def test_it(): assert g
        """,
    "setup_module": """
        def setup():
            global g
            g = 1
        def setup_module(): pass
        def test_it(): assert g
        """,
}


@pytest.fixture(scope="module")
def suite(tmp_path_factory):
    suite = Suite(tmp_path_factory.mktemp("setups"), **LEFT_OUT)
    suite.result = suite.run()
    return suite


def test_it_is_one_root_cause(suite):
    (cluster,) = suite.analysis.clusters
    assert cluster.count == 5
    assert {why.evidence for why in cluster.why} == {"setup() not called"}
    assert "5 failures -> 1 root cause" in suite.result.headline


def test_it_says_what_to_do(suite):
    (cluster,) = suite.analysis.clusters
    assert (cluster.category, cluster.owner) == ("FIXTURE", "test")
    assert "defines setup(), which pytest 8 no longer calls" in cluster.classified
    assert "defines setup(), which pytest 8 no longer calls; rename to setup_m" in cluster.fix
    assert "pytest 8 no longer calls setup() of 3 classes" in cluster.name
    assert {(suspect.file, suspect.function) for suspect in cluster.suspects} == {
        ("test_a.py", "TestA.setup"),
        ("test_b.py", "Base.setup"),
        ("test_c.py", "setup"),
    }


@pytest.mark.parametrize(
    ("name", "place"),
    [
        ("::test_g", ("test_a.py", 3, "TestA.setup")),
        ("::test_deep", ("test_a.py", 3, "TestA.setup")),
        ("::test_nodes", ("test_b.py", 3, "Base.setup")),
        ("::test_connection", ("test_c.py", 2, "setup")),
    ],
)
def test_the_record_names_the_setup(suite, name, place):
    setup = suite.trace(name).failure.uncalled
    assert (setup.file, setup.line, setup.qualname) == place


@pytest.mark.parametrize("name", CALLED)
def test_what_only_looks_like_it(tmp_path, name):
    suite = Suite(tmp_path, test_a=CALLED[name])
    suite.run()
    failing = [trace for trace in suite.traces if trace.failure is not None]
    assert failing
    assert [trace.failure.uncalled for trace in failing] == [None] * len(failing)
