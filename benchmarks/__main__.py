"""`python -m benchmarks [NAME …]`: measure, print a table, keep it in docs/benchmarks.json. No name: all of them."""

from __future__ import annotations

import sys

from benchmarks import cycle, latency, one_trainer, pages
from benchmarks.report import keep, table

ALL = {"cycle": cycle.main, "one-trainer": one_trainer.main, "latency": latency.main, "pages": pages.main}


def main(names: list[str]) -> int:
    unknown = [n for n in names if n not in ALL]
    if unknown:
        print(f"no benchmark is called {', '.join(unknown)}; there are: {', '.join(ALL)}", file=sys.stderr)
        return 2
    for name in names or list(ALL):
        rows = ALL[name]()
        print(f"\n{name}\n{table(rows)}", flush=True)
        keep(name, rows, f"python -m benchmarks {name}")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
