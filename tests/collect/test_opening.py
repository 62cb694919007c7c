from __future__ import annotations

import builtins
import gzip
import importlib
import io
import tracemalloc

import pytest
from collect.conftest import Endless
from hypothesis import given
from hypothesis import strategies as st

from pytest_tracetriage.collect import junit, reportlog
from pytest_tracetriage.collect.formats import MissingZstd, complaint, lines, open_source, sniff

FORMATS = (junit.FORMAT, reportlog.FORMAT)


def test_plain_and_gzip_are_told_apart_by_their_bytes(tmp_path):
    (tmp_path / "plain.gz").write_bytes(b"hello")
    (tmp_path / "packed").write_bytes(gzip.compress(b"hello"))
    for name in ("plain.gz", "packed"):
        with open_source(tmp_path / name) as file:
            assert file.read() == b"hello"


def zstd():
    for name in ("compression.zstd", "backports.zstd"):
        try:
            return importlib.import_module(name)
        except ImportError:
            continue
    return pytest.skip("no zstd here")


def test_zstd(tmp_path):
    (tmp_path / "packed").write_bytes(zstd().compress(b"hello\n" * 1000))
    with open_source(tmp_path / "packed") as file:
        assert file.read() == b"hello\n" * 1000


def test_zstd_missing_says_what_to_install(tmp_path, monkeypatch):
    (tmp_path / "packed").write_bytes(b"\x28\xb5\x2f\xfd....")

    def refuse(name, *_):
        raise ImportError(name)

    monkeypatch.setattr(importlib, "import_module", refuse)
    with pytest.raises(MissingZstd, match=r'^packed with zstd: pip install "pytest-tracetriage\[zstd\]"'):
        open_source(tmp_path / "packed")
    assert issubclass(MissingZstd, OSError)


def test_a_damaged_or_cut_stream_is_an_os_or_eof_error(tmp_path):
    whole = gzip.compress(bytes(range(256)) * 1000)
    (tmp_path / "cut").write_bytes(whole[: len(whole) // 2])
    (tmp_path / "damaged").write_bytes(whole[:100] + b"\xff" * 200 + whole[300:])
    (tmp_path / "header only").write_bytes(whole[:4])
    for name in ("cut", "damaged", "header only"):
        with open_source(tmp_path / name) as file, pytest.raises((OSError, EOFError)):
            file.read()


def test_closing_an_unpacked_stream_closes_the_file(tmp_path, monkeypatch):
    (tmp_path / "packed").write_bytes(gzip.compress(b"hello"))
    opened = []

    def remembered(*args, **kwargs):
        opened.append(real(*args, **kwargs))
        return opened[-1]

    real = builtins.open
    monkeypatch.setattr(builtins, "open", remembered)
    open_source(tmp_path / "packed").close()
    assert [file.closed for file in opened] == [True]


def test_a_line_that_is_too_long_is_skipped_and_not_held():
    tracemalloc.start()
    try:
        found = list(lines(Endless(b"first\n", 100_000_000, b"\nlast\n"), limit=1_000_000))
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert found == [(1, b"first"), (2, None), (3, b"last")]
    assert peak < 10_000_000


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16"])
@pytest.mark.parametrize("ending", ["\n", "\r\n"])
def test_encodings_and_endings(encoding, ending):
    file = io.BytesIO(ending.join(["å", "", "雪", "x" * 300_000, "end"]).encode(encoding))
    assert [line.decode() for _, line in lines(file)] == ["å", "", "雪", "x" * 300_000, "end"]


@given(st.lists(st.binary(max_size=30).map(lambda b: b.replace(b"\n", b"").replace(b"\r", b"")), max_size=20))
def test_any_lines_come_back(given_lines):
    body = b"".join(line + b"\n" for line in given_lines)
    if body.startswith((b"\xff\xfe", b"\xfe\xff", b"\xef\xbb\xbf")):
        return
    assert list(lines(io.BytesIO(body))) == list(enumerate(given_lines, 1))


def test_complaints():
    assert complaint(b"fine") == ""
    assert "longer than" in complaint(None)
    assert "binary" in complaint(b"a\0b")
    assert "byte 0xe9 at column 2" in complaint("né".encode("latin-1"))


def test_sniff():
    log = b'{"pytest_version": "9.2.0", "$report_type": "SessionStart"}\n'
    xml = b'<?xml version="1.0" encoding="utf-8"?>\n<testsuites><testsuite>'
    assert sniff(log, FORMATS) is reportlog.FORMAT
    assert sniff(b"\xef\xbb\xbf" + xml, FORMATS) is junit.FORMAT
    assert sniff(xml.decode().encode("utf-16"), FORMATS) is junit.FORMAT
    assert sniff(b'<testsuite name="x">', FORMATS) is junit.FORMAT
    for other in (
        b"",
        b"<html><testcases>",
        b'{"results": {"tool": {}}}',
        b'{"record": "trace", "nodeid": "a"}',
        b"\0\1",
    ):
        assert sniff(other, FORMATS) is None
