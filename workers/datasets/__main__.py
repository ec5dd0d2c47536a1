"""`python -m workers.datasets INPUT OUTPUT_DIR`: prepare an uploaded file.

Lines of JSON on standard output: `{"done": n, "total": m}` as it goes, at the end `{"kind", "format", "examples",
"info"}`. What is wrong with the file is the last line on standard error, `{"field", "message"}`, with exit status 2.
"""

from __future__ import annotations

import argparse
import errno
import json
import sys
import traceback
from pathlib import Path

from workers.datasets.errors import BadData
from workers.datasets.limits import ADDRESS_SPACE_BYTES, confine, size
from workers.datasets.options import FORMATS

WRONG = 2


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m workers.datasets", description="Prepare an uploaded file.")
    parser.add_argument("input", type=Path, help="the file")
    parser.add_argument("output", type=Path, help="the folder to make of it; it must not exist")
    parser.add_argument("--format", default="auto", choices=["auto", *FORMATS])
    parser.add_argument("--options", default="{}", help="how to read it, as JSON (docs/data.md)")
    return parser.parse_args()


def main() -> int:
    given = arguments()
    confine()
    try:
        run(given)
    except BadData as wrong:
        return fail(wrong)
    except MemoryError:
        return fail(BadData("file", f"needs more than {size(ADDRESS_SPACE_BYTES)} of memory to prepare"))
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            return fail(BadData("output", "the disk is full"))
        raise
    except Exception as error:  # noqa: BLE001 - a process ends here; a file can be wrong in ways no library foresees
        traceback.print_exc()
        return fail(BadData("file", f"can't be read: {type(error).__name__}: {error}"))
    return 0


def run(given: argparse.Namespace) -> None:
    # Behind the bounds: these load Arrow and Pillow.
    from workers.datasets import options, preparing
    from workers.datasets.progress import Progress

    try:
        chosen = options.parse(json.loads(given.options))
    except ValueError as error:
        raise BadData("options", f"is no JSON: {error}") from None
    file_format = None if given.format == "auto" else given.format
    progress = Progress(sys.stdout)
    info = preparing.prepare(given.input, given.output, file_format=file_format, options=chosen, progress=progress)
    print(json.dumps({key: info[key] for key in ("kind", "format", "examples")} | {"info": info}), flush=True)


def fail(wrong: BadData) -> int:
    print(json.dumps({"field": wrong.field, "message": wrong.message}), file=sys.stderr, flush=True)
    return WRONG


if __name__ == "__main__":
    sys.exit(main())
