"""Generated suites: tests that pass at once, and tests that all fail from one cause through a deep traceback.

Also a command: `python benchmarks/suites.py passing|failing FOLDER --tests 2000 --files 20`.
"""

from __future__ import annotations

import argparse
from pathlib import Path

FRAMES = 10
_LINK = '''

def stage_{number}(order, serial):
    """Prepare the order for the next stage."""
    prepared = dict(order, stage={number})
    outcome = stage_{following}(prepared, serial)
    return outcome
'''
_LAST = '''

def stage_{number}(order, serial):
    """Price the order."""
    prices = {{name: amount * 2 for name, amount in order.items() if isinstance(amount, int)}}
    if prices["pieces"] >= 0:
        raise ValueError(f"order {{serial}} cannot be priced: {{prices['pieces']}} pieces")
    return prices
'''

_TEST = """def test_{serial:05}():
    order = {{"pieces": {serial}, "name": "mug"}}
    stage_1(order, {serial})
"""


_GOODS = """
def price(pieces, kind):
    total = 0
    for piece in pieces:
        total += amount(piece, kind)
    return rounded(total)


def amount(piece, kind):
    if kind == 0:
        return piece
    if kind == 1:
        return reduced(piece, 0.9)
    if kind == 2:
        return reduced(piece, 0.8) + 1
    return surcharged(piece, kind)


def reduced(piece, factor):
    value = piece * factor
    return value if value > 1 else 1


def surcharged(piece, kind):
    for _ in range(kind):
        piece += 1
    return piece


def rounded(total):
    return int(total * 100) / 100
"""


def _counts(tests: int, files: int) -> list[int]:
    each, left = divmod(tests, files)
    return [each + (number < left) for number in range(files)]


def _prepare(folder: Path) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "pytest.ini").write_text("[pytest]\naddopts = -p no:cacheprovider\npythonpath = .\n", encoding="utf-8")


def passing(folder: Path, tests: int, files: int) -> Path:
    """Write a suite of tests that do nothing and pass."""
    _prepare(folder)
    for number, count in enumerate(_counts(tests, files)):
        text = "\n\n".join(f"def test_{serial:05}():\n    assert True\n" for serial in range(count))
        (folder / f"test_part_{number:03}.py").write_text(text, encoding="utf-8")
    return folder


def failing(folder: Path, tests: int, files: int, frames: int = FRAMES) -> Path:
    """Write a suite of tests that all fail in the same line, `frames` frames deep, with a number in the message."""
    _prepare(folder)
    links = [_LINK.format(number=number, following=number + 1) for number in range(1, frames - 1)]
    stages = ["".join(links), _LAST.format(number=frames - 1)]
    (folder / "orders.py").write_text('"""The application."""\n' + "".join(stages), encoding="utf-8")
    for number, count in enumerate(_counts(tests, files)):
        bodies = (_TEST.format(serial=serial) for serial in range(count))
        text = "from orders import stage_1\n\n\n" + "\n\n".join(bodies)
        (folder / f"test_part_{number:03}.py").write_text(text, encoding="utf-8")
    return folder


def priced(folder: Path, tests: int, files: int, modules: int = 20) -> Path:
    """Write a suite of passing tests that each run some functions of a few modules of an application."""
    _prepare(folder)
    for number in range(modules):
        (folder / f"goods_{number:02}.py").write_text(_GOODS, encoding="utf-8")
    for number, count in enumerate(_counts(tests, files)):
        used = sorted({(number * 7 + step * step) % modules for step in range(6)})
        imports = "".join(f"from goods_{one:02} import price as price_{one:02}\n" for one in used)
        bodies = []
        for serial in range(count):
            given = f"{serial}, {{}}, 3], {serial % 5}"
            calls = "".join(f"    assert price_{one:02}([{given.format(one)}) >= 0\n" for one in used[serial % 3 :])
            bodies.append(f"def test_{serial:05}():\n{calls}")
        (folder / f"test_part_{number:03}.py").write_text(imports + "\n\n" + "\n\n".join(bodies), encoding="utf-8")
    return folder


def main() -> None:
    """Write one suite."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("kind", choices=["passing", "failing"])
    parser.add_argument("folder", type=Path)
    parser.add_argument("--tests", type=int, default=2000)
    parser.add_argument("--files", type=int, default=20)
    given = parser.parse_args()
    {"passing": passing, "failing": failing}[given.kind](given.folder, given.tests, given.files)


if __name__ == "__main__":
    main()
