#!/bin/sh
# Runs the examples' suites with TraceTriage, then shows where to look next: demo.sh FOLDER_OF_PYTHON_AND_TRACETRIAGE
# The suites are red on purpose: their exit status 1 is success here, any other one is a fault.
set -u
bin=$(cd "${1:?the folder of python and tracetriage}" && pwd) || exit 2
examples=$(cd "$(dirname "$0")" && pwd) || exit 2

# red_suite PYTEST_ARGUMENT...: runs the suite of the current folder, which should be red.
red_suite() {
    # pytest-asyncio, where the tests' plugins are installed too, would open with a warning about its settings.
    "$bin/python" -m pytest --tracetriage -p no:asyncio "$@"
    status=$?
    if [ "$status" -eq 0 ]; then
        echo "demo: the suite in $(pwd) should be red, but it passed" >&2
        exit 1
    elif [ "$status" -ne 1 ]; then
        echo "demo: pytest exited with $status in $(pwd)" >&2
        exit "$status"
    fi
}

# first_cause REPORT: the shortest prefix of the first cluster's id that no other one has.
first_cause() {
    "$bin/tracetriage" analyze --format json --output "$1"
    "$bin/python" -c '
import json, sys
ids = [cluster["id"] for cluster in json.load(open(sys.argv[1], encoding="utf-8"))["clusters"]]
print(next(ids[0][:n] for n in range(5, 27) if len({id[:n] for id in ids}) == len(ids)))
' "$1"
}

report=$(mktemp) || exit 2
trap 'rm -f "$report"' EXIT

cd "$examples/shop" || exit 2
red_suite
first=$(first_cause "$report")
if [ -z "$first" ]; then
    echo "demo: the run could not be analysed" >&2
    exit 1
fi
cat <<NEXT

Where to look next, in $(pwd):
  export PATH="$bin:\$PATH"
  tracetriage show $first                   the first cause: traceback, evidence, where to look
  tracetriage show $first --format prompt   the same as a text for a coding agent
  pytest --tracetriage-rerun=$first         only the tests of this cause again
  tracetriage diagnose                      is it real, and where: a few tests of each cause run again
  tracetriage analyze --format markdown     the whole report
README.md tells what is really wrong with this shop.

NEXT

cd "$examples/agent" || exit 2
if ! "$bin/python" -c 'import importlib.util as u, sys; sys.exit(not (u.find_spec("weave") and u.find_spec("openai")))'; then
    echo "The second example, an agent, needs more: pip install 'pytest-tracetriage[weave,openai]'"
    exit 0
fi
red_suite --tb=no -rN
test='tests/test_fixer.py::test_mends_a_file_with_tabs'
"$bin/tracetriage" show "$test" >"$report" || exit
printf '\n$ tracetriage show %s\n' "$test"
sed '/^_____*/,$d' "$report"  # without the traceback at its end
cat <<NEXT

The same with its traceback, and of the other failures, in $(pwd):
  tracetriage show $test
  tracetriage show 'tests/test_healer.py::test_heals[legacy]'   the same cause, through all components
README.md tells what is really wrong with this agent.
NEXT
