"""Fail if the tests covered too little of sktl: python .ci/coverage.py REPORT, what pytest-cov wrote as JSON."""

import json
import sys
from pathlib import Path

LEAST = {"lines": 95.0, "branches": 90.0}

report = json.loads(Path(sys.argv[1]).read_text())
totals = report["totals"]
if not totals["covered_lines"]:
    sys.exit("Nothing was measured: the tests imported another sktl than the one that was watched.")
found = {
    "lines": 100 * totals["covered_lines"] / totals["num_statements"],
    "branches": 100 * totals["covered_branches"] / totals["num_branches"],
}
for name, file in sorted(report["files"].items(), key=lambda item: item[1]["summary"]["percent_covered"])[:10]:
    print(f"{file['summary']['percent_covered']:6.1f} %  {name}")
for kind, share in found.items():
    print(f"{share:.1f} % of {kind}; at least {LEAST[kind]:.0f} %")
sys.exit(any(share < LEAST[kind] for kind, share in found.items()))
