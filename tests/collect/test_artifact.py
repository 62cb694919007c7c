"""Artifacts of strangers: what is harmless is read, everything else is refused with a reason and writes nothing."""

from __future__ import annotations

import gzip
import io
import os
import stat
import struct
import zipfile

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pytest_tracetriage.collect import artifact
from pytest_tracetriage.collect.artifact import accept

RUN = "20261120T043000Z-7f3a9c"
OTHER = "20261120T043001Z-000001"


@pytest.fixture
def into(tmp_path):
    folder = tmp_path / "unpacked"
    folder.mkdir()
    return folder


def packed(path, *entries, compression=zipfile.ZIP_DEFLATED):
    with zipfile.ZipFile(path, "w", compression) as archive:
        for name, content in entries:
            archive.writestr(name, content)
    return path


def everything_below(folder):
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*"))


GOOD = (
    (f"leg-1/runs/{RUN}/run.json", "{}"),
    (f"leg-1/runs/{RUN}/traces/main.jsonl", "{}\n"),
    (f"leg-1/runs/{RUN}/traces/gw0.running", "x"),
    (f"leg-2/{OTHER}/run.json", "{}"),
)


def test_a_zip_with_runs(tmp_path, into):
    found = accept(packed(tmp_path / "a.zip", *GOOD, ("leg-1/junit.xml", "<x/>"), ("notes.txt", "hello")), into)
    assert found.refused == ()
    assert found.runs == (into / f"leg-1/runs/{RUN}", into / f"leg-2/{OTHER}")
    assert [name for name in everything_below(into) if name.endswith((".xml", ".txt"))] == []
    assert (into / f"leg-1/runs/{RUN}/traces/main.jsonl").read_text(encoding="utf-8") == "{}\n"


def test_a_folder_with_runs(tmp_path, into):
    for name, content in GOOD:
        path = tmp_path / "artifacts" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(content, encoding="utf-8")
    found = accept(tmp_path / "artifacts", into)
    assert found.refused == ()
    assert found.runs == (tmp_path / f"artifacts/leg-1/runs/{RUN}", tmp_path / f"artifacts/leg-2/{OTHER}")
    assert accept(tmp_path / f"artifacts/leg-2/{OTHER}", into).runs == (tmp_path / f"artifacts/leg-2/{OTHER}",)
    assert everything_below(into) == []


def refusal(source, into):
    found = accept(source, into)
    assert found.runs == ()
    (problem,) = found.refused
    assert problem.file == str(source)
    assert problem.message.startswith("refused: ")
    assert "\n" not in problem.message
    return problem.message


@pytest.mark.parametrize(
    "name",
    [
        f"../{RUN}/run.json",
        f"a/../../{RUN}/run.json",
        f"/tmp/{RUN}/run.json",
        f"C:/x/{RUN}/run.json",
        f"a\\..\\{RUN}/run.json",
        f"{RUN}/traces/\x1b[31m.jsonl",
        "/".join(["deep"] * 20) + f"/{RUN}/run.json",
    ],
)
def test_one_entry_that_leads_out_refuses_the_whole_archive(tmp_path, into, name):
    before = everything_below(tmp_path)
    refusal(packed(tmp_path / "a.zip", *GOOD, (name, "evil")), into)
    assert everything_below(tmp_path) == sorted([*before, "a.zip"])


def test_a_symbolic_link_in_an_archive(tmp_path, into):
    link = zipfile.ZipInfo(f"{RUN}/traces/main.jsonl")
    link.external_attr = (stat.S_IFLNK | 0o777) << 16
    with zipfile.ZipFile(tmp_path / "a.zip", "w") as archive:
        archive.writestr(f"{RUN}/run.json", "{}")
        archive.writestr(link, "/etc/passwd")
    assert "symbolic link" in refusal(tmp_path / "a.zip", into)
    assert everything_below(into) == []


@pytest.mark.parametrize("make", [os.symlink, lambda target, path: os.mkfifo(path)], ids=["link", "pipe"])
@pytest.mark.linux
def test_what_is_no_regular_file_in_a_folder(tmp_path, into, make):
    folder = tmp_path / "artifacts" / RUN / "traces"
    folder.mkdir(parents=True)
    (folder.parent / "run.json").write_text("{}", encoding="utf-8")
    make("/etc/passwd", folder / "main.jsonl")
    assert "traces/main.jsonl" in refusal(tmp_path / "artifacts", into)


@pytest.mark.linux
def test_a_linked_folder_is_refused(tmp_path, into):
    (tmp_path / "real" / RUN).mkdir(parents=True)
    (tmp_path / "link").symlink_to(tmp_path / "real")
    assert "symbolic link" in refusal(tmp_path / "link", into)
    (tmp_path / "outer").mkdir()
    (tmp_path / "outer" / "inner").symlink_to(tmp_path / "real")
    assert "symbolic link" in refusal(tmp_path / "outer", into)


def test_ten_gigabytes_of_zeros(tmp_path, into):
    """10 GB of zeros pack into 10 MB: what the archive says is enough to refuse it."""
    with zipfile.ZipFile(tmp_path / "a.zip", "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr(f"{RUN}/run.json", "{}")
        archive.writestr(f"{RUN}/traces/main.jsonl", b"")
    data = bytearray((tmp_path / "a.zip").read_bytes())
    at = data.rindex(b"PK\x01\x02")
    data[at + 24 : at + 28] = struct.pack("<I", 4_000_000_000)
    (tmp_path / "a.zip").write_bytes(data)
    assert "4,000,000,000 bytes" in refusal(tmp_path / "a.zip", into)
    assert everything_below(into) == []


@pytest.mark.linux
def test_ten_gigabytes_of_zeros_in_a_folder(tmp_path, into):
    folder = tmp_path / "artifacts" / RUN / "traces"
    folder.mkdir(parents=True)
    with (folder / "main.jsonl").open("wb") as file:
        file.truncate(10_000_000_000)  # sparse
    assert "10,000,000,000 bytes" in refusal(tmp_path / "artifacts", into)


def test_an_archive_that_lies_about_its_size(tmp_path, into, monkeypatch):
    monkeypatch.setattr(artifact, "MAX_TOTAL", 2_000_000)
    source = packed(tmp_path / "a.zip", (f"{RUN}/traces/main.jsonl", b"\0" * 5_000_000))
    data = bytearray(source.read_bytes())
    at = data.rindex(b"PK\x01\x02")
    data[at + 24 : at + 28] = struct.pack("<I", 1000)
    source.write_bytes(data)
    refusal(source, into)
    assert sum(path.stat().st_size for path in into.rglob("*") if path.is_file()) <= 2_000_000


def test_too_much_in_all(tmp_path, into, monkeypatch):
    monkeypatch.setattr(artifact, "MAX_TOTAL", 1000)
    assert "1,000 bytes in all" in refusal(packed(tmp_path / "a.zip", *((f"{n}.txt", "x" * 400) for n in range(3))), into)
    monkeypatch.setattr(artifact, "MAX_FILES", 2)
    assert "more than 2 files" in refusal(packed(tmp_path / "b.zip", *((f"{n}.txt", "x") for n in range(3))), into)


def test_a_run_json_has_a_limit_of_its_own(tmp_path, into, monkeypatch):
    monkeypatch.setattr(artifact, "MAX_RUN_JSON", 10)
    assert "run.json" in refusal(packed(tmp_path / "a.zip", (f"{RUN}/run.json", "{" + " " * 20 + "}")), into)


@pytest.fixture(params=["a folder", "a zip", "the run itself"])
def handed_in(request, tmp_path):
    """A function that hands in files of one run in each of the ways there are."""

    def of(**files):
        names = {f"{RUN}/{name.replace('__', '/').replace('_', '.')}": content for name, content in files.items()}
        if request.param == "a zip":
            return packed(tmp_path / "a.zip", *names.items())
        for name, content in names.items():
            path = tmp_path / "artifacts" / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(content)
        return tmp_path / "artifacts" / (RUN if request.param == "the run itself" else "")

    return of


@pytest.mark.parametrize("name", ["traces__main_jsonl_gz", "traces__main_jsonl"])
def test_traces_are_weighed_as_they_are_read(handed_in, into, monkeypatch, name):
    """gzip is told by the first bytes, whatever the file's name says."""
    monkeypatch.setattr(artifact, "MAX_TOTAL", 1_000_000)
    bomb = gzip.compress(b"\0" * 1_000_001)
    assert "unpacked" in refusal(handed_in(run_json=b"{}", **{name: bomb}), into)


@pytest.mark.parametrize("pack", [bytes, gzip.compress])
def test_a_million_lines_with_nothing_in_them(handed_in, into, monkeypatch, pack):
    monkeypatch.setattr(artifact, "MAX_LINES", 999_999)
    assert "999,999 lines" in refusal(handed_in(run_json=b"{}", traces__main_jsonl=pack(b"\n" * 1_000_000)), into)


def test_packed_traces_that_are_damaged_are_left_to_their_reader(handed_in, into):
    found = accept(handed_in(run_json=b"{}", traces__main_jsonl_gz=gzip.compress(b"{}\n" * 1000)[:-20]), into)
    assert (len(found.runs), found.refused) == (1, ())


def test_run_jsons_have_a_limit_together(handed_in, into, monkeypatch):
    monkeypatch.setattr(artifact, "MAX_RUN_JSONS", 10)
    assert "10 bytes of run.json in all" in refusal(handed_in(run_json=b"{         }"), into)


def test_a_slot_is_small(handed_in, into):
    assert "gw0.running: " in refusal(handed_in(run_json=b"{}", traces__gw0_running=bytes(artifact.MAX_SLOT + 1)), into)


def test_names_that_differ_in_case_only(tmp_path, into):
    """On some file systems the second would overwrite the first."""
    entries = ((f"{RUN}/traces/a.jsonl", "1"), (f"{RUN}/traces/A.jsonl", "2"))
    assert "twice" in refusal(packed(tmp_path / "a.zip", *entries), into)


def test_forged_run_ids_are_no_runs(tmp_path, into):
    names = ["20261120T043000Z-zzzzzz", "run", "20261120T043000Z-7f3a9c ", "..."]
    found = accept(packed(tmp_path / "a.zip", *((f"{name}/run.json", "{}") for name in names)), into)
    assert (found.runs, everything_below(into)) == ((), [])


def test_what_is_no_archive(tmp_path, into):
    (tmp_path / "x.zip").write_bytes(b"not a zip")
    assert "neither" in refusal(tmp_path / "x.zip", into)
    assert "no such file" in refusal(tmp_path / "missing", into)


@given(data=st.binary(max_size=400), at=st.integers(0, 400))
def test_a_damaged_archive_writes_nothing_outside(tmp_path_factory, data, at):
    folder = tmp_path_factory.mktemp("zip")
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in GOOD:
            archive.writestr(name, content)
    damaged = bytearray(stream.getvalue())
    damaged[at : at + len(data)] = data
    (folder / "a.zip").write_bytes(damaged)
    (folder / "unpacked").mkdir()
    found = accept(folder / "a.zip", folder / "unpacked")
    assert sorted(path.name for path in folder.iterdir()) == ["a.zip", "unpacked"]
    for run in found.runs:
        assert run.is_relative_to(folder / "unpacked")
