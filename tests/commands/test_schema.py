"""`tracetriage schema`: what it prints holds for what is written."""

from __future__ import annotations

import json

import pytest

jsonschema = pytest.importorskip("jsonschema")


@pytest.fixture
def validator(tracetriage):
    def of(kind):
        result = tracetriage("schema", kind)
        assert result.code == 0
        schema = json.loads(result.out)
        jsonschema.Draft202012Validator.check_schema(schema)
        return jsonschema.Draft202012Validator(schema)

    return of


def test_all_of_them(empty, tracetriage):
    found = json.loads(tracetriage("schema").out)
    assert {kind: schema["$id"] for kind, schema in found.items()} == {
        "record": "tracetriage.record/1",
        "run": "tracetriage.run/1",
        "analysis": "tracetriage.analysis/1",
        "diagnosis": "tracetriage.analysis/1",
        "aliases": "tracetriage.aliases/1",
        "culprit": "tracetriage.culprit/1",
    }
    assert all(schema["$schema"].endswith("2020-12/schema") for schema in found.values())


def test_every_record_of_a_run(shop, run_folder, validator):
    check = validator("record")
    kinds = set()
    for line in (run_folder / "traces" / "main.jsonl").read_bytes().splitlines():
        record = json.loads(line)
        kinds.add(record["record"])
        check.validate(record)
    assert kinds >= {"trace", "source"}


@pytest.mark.parametrize("name", ["run", "analysis"])
def test_files_of_a_run(shop, run_folder, validator, name):
    validator(name).validate(json.loads((run_folder / f"{name}.json").read_bytes()))


def test_decisions(shop, run_folder, tracetriage, validator):
    ids = [cluster["id"] for cluster in json.loads((run_folder / "analysis.json").read_bytes())["clusters"]]
    tracetriage("join", ids[0], ids[1], "--reason", "x")
    tracetriage("mute", ids[2], "--reason", "x", "--until", "2030-01-01")
    validator("aliases").validate(json.loads((shop / ".tracetriage" / "policy" / "aliases.json").read_bytes()))


def test_what_analyze_prints_and_what_it_saves(shop, empty, tracetriage, validator):
    printed = tracetriage("analyze", shop / "log.jsonl", "--save", "--format", "json").out
    validator("analysis").validate(json.loads(printed))
    (run,) = (empty / ".tracetriage" / "runs").iterdir()
    for name in ("run", "analysis"):
        validator(name).validate(json.loads((run / f"{name}.json").read_bytes()))
    check = validator("record")
    for line in (run / "traces" / "main.jsonl").read_bytes().splitlines():
        check.validate(json.loads(line))


@pytest.mark.parametrize(
    ("kind", "wrong"),
    [
        ("record", {"record": "trace", "id": "", "nodeid": "t", "outcome": "passed"}),
        ("record", {"record": "trace", "id": "1", "nodeid": "t", "outcome": "good"}),
        ("record", {"record": "banana"}),
        ("run", {"schema": "tracetriage.run/1", "id": "x", "status": "asleep", "started": 0}),
        ("analysis", {"runs": []}),
        ("aliases", {"joins": [3]}),
    ],
)
def test_what_is_wrong_is_refused(empty, validator, kind, wrong):
    with pytest.raises(jsonschema.ValidationError):
        validator(kind).validate(wrong)


def test_output_goes_to_a_file(empty, tracetriage):
    tracetriage("schema", "run", "--output", "run.schema.json")
    assert json.loads((empty / "run.schema.json").read_bytes())["$id"] == "tracetriage.run/1"


def test_a_kind_that_does_not_exist(empty, tracetriage):
    assert (
        "'banana' is not one of 'record', 'run', 'analysis', 'diagnosis', 'aliases', 'culprit'"
        in tracetriage("schema", "banana").mistake
    )
