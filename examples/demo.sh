#!/bin/sh
# Runs the example's suite with TraceTriage, then shows where to look next: demo.sh FOLDER_OF_PYTHON_AND_TRACETRIAGE
# The suite is red on purpose: its exit status 1 is success here, any other one is a fault.
set -u
bin=$(cd "${1:?the folder of python and tracetriage}" && pwd) || exit 2
cd "$(dirname "$0")/shop" || exit 2

# pytest-asyncio, where the tests' plugins are installed too, would open with a warning about its settings.
"$bin/python" -m pytest --tracetriage -p no:asyncio
status=$?
if [ "$status" -eq 0 ]; then
    echo "demo: the example's suite should be red, but it passed" >&2
    exit 1
elif [ "$status" -ne 1 ]; then
    echo "demo: pytest exited with $status" >&2
    exit "$status"
fi

report=$(mktemp) || exit 2
trap 'rm -f "$report"' EXIT
"$bin/tracetriage" analyze --format json --output "$report"
first=$("$bin/python" -c '
import json, sys
ids = [cluster["id"] for cluster in json.load(open(sys.argv[1], encoding="utf-8"))["clusters"]]
print(next(ids[0][:n] for n in range(5, 27) if len({id[:n] for id in ids}) == len(ids)))
' "$report")
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
  tracetriage analyze --format markdown     the whole report
README.md tells what is really wrong with this shop.
NEXT
