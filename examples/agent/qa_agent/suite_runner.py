"""Runs the tests of the current folder, `tests/test_*.py`, and prints those that fail, a line of JSON each.

python -I suite_runner.py [NODE_ID]
"""

import importlib.util
import json
import sys
import traceback
from pathlib import Path

ROOT = Path.cwd()
WANTED = sys.argv[1] if len(sys.argv) > 1 else ""


def frame(summary):
    return f"{Path(summary.filename).relative_to(ROOT).as_posix()}:{summary.lineno} {summary.name}"


def failure(test, error):
    frames = [one for one in traceback.extract_tb(error.__traceback__) if one.filename.startswith(str(ROOT))]
    return {"test": test, "error": f"{type(error).__name__}: {error}", "frames": [frame(one) for one in frames]}


sys.path.insert(0, str(ROOT))
for file in sorted(ROOT.glob("tests/test_*.py")):
    spec = importlib.util.spec_from_file_location(file.stem, file)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    for name, function in list(vars(module).items()):
        nodeid = f"tests/{file.name}::{name}"
        if name.startswith("test_") and WANTED in ("", nodeid):
            try:
                function()
            except Exception as error:
                print(json.dumps(failure(nodeid, error)))
