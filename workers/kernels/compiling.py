"""From C++ text to a loaded function: compiled once for each text, compiler and processor, and kept in a folder.

A file's name is the hash of all that decides over its bits, so that nothing stale is ever loaded, and hosts of several
kinds can share the folder.
"""

from __future__ import annotations

import ctypes
import functools
import hashlib
import os
import platform
import secrets
import shutil
import subprocess
import sys
import time
from pathlib import Path

COMPILERS = ("c++", "g++", "clang++")
FLAGS = (
    "-std=c++17",
    "-O3",
    "-march=native",
    "-fPIC",
    "-shared",
    # Square roots and comparisons are vectorised only where nobody reads errno or traps.
    "-fno-math-errno",
    "-fno-trapping-math",
)
COMPILE_SECONDS = 60.0
VERSION_SECONDS = 10.0


@functools.cache
def compiler() -> str | None:
    """Path of this machine's C++ compiler. None: it has none."""
    return next((found for name in COMPILERS if (found := shutil.which(name))), None)


@functools.cache
def _toolchain(path: str) -> str:
    """What decides over a compilation's outcome besides the text: compiler, flags and the processor that is native."""
    version = subprocess.run([path, "--version"], capture_output=True, text=True, timeout=VERSION_SECONDS, check=True)
    return "\n".join([version.stdout, *FLAGS, platform.machine(), _processor()])


def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.processor()
    wanted = ("model name", "flags", "Features", "CPU implementer", "CPU part")
    return "\n".join(sorted({line for line in lines if line.startswith(wanted)}))


def name_of(source: str) -> str | None:
    """The name of this text's kernel on this machine, as a gradient log has it. None: there is no compiler."""
    path = compiler()
    if path is None:
        return None
    return "cpp-" + hashlib.sha256(f"{source}\n{_toolchain(path)}".encode()).hexdigest()[:24]


def find(source: str, folder: Path) -> Path | None:
    """The kernel, where it has been compiled. None: it has not."""
    name = name_of(source)
    path = folder / f"{name}.so"
    return path if name is not None and path.exists() else None


def build(source: str, folder: Path) -> Path | None:
    """Find or compile the kernel, and wait for it. None: there is no compiler, or it could not."""
    found = find(source, folder)
    if found is not None:
        return found
    command = _command(source, folder)
    if command is None:
        return None
    done = subprocess.run(command, input=source, text=True, capture_output=True, timeout=COMPILE_SECONDS, check=False)
    if done.returncode != 0:
        print(f"the C++ compiler failed; rules run without it: {done.stderr[-2000:]}", file=sys.stderr)
    return find(source, folder)


def begin(source: str, folder: Path) -> bool:
    """Have the kernel compiled beside whatever goes on, for whoever comes next. False: there is no compiler.

    The compiler outlives this process if it must, at the lowest priority; its result appears whole or not at all. While
    one is at it, nobody starts another. Raises OSError.
    """
    command = _command(source, folder)
    if command is None or not _is_first(folder / f"{name_of(source)}.making"):
        return command is not None
    with _write_text(source, folder).open() as file:
        subprocess.Popen(
            ["nice", "-n", "19", "timeout", str(int(COMPILE_SECONDS)), *command],
            stdin=file,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
        )
    return True


def _is_first(mark: Path) -> bool:
    """Leave a mark that somebody is at it. False: somebody has been for less than a compilation may take."""
    try:
        if time.time() - mark.stat().st_mtime < COMPILE_SECONDS:
            return False
    except FileNotFoundError:
        pass
    mark.touch(mode=0o600)
    return True


def _write_text(source: str, folder: Path) -> Path:
    path = folder / f"{name_of(source)}.cpp"
    partial = _partial(path)
    partial.write_text(source)
    os.replace(partial, path)
    return path


def _partial(path: Path) -> Path:
    """A name that no other process on any host writes to: hosts may share the folder, and their pids be the same."""
    return path.with_name(f"{path.name}.{secrets.token_hex(8)}")


def _command(source: str, folder: Path) -> list[str] | None:
    """Compile what comes on standard input, under another name first."""
    path, name = compiler(), name_of(source)
    if path is None or name is None:
        return None
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    whole = folder / f"{name}.so"
    partial = _partial(whole)
    script = 'out=$1 whole=$2; shift 2; "$@" -o "$out" && mv -f "$out" "$whole" || { rm -f "$out"; exit 1; }'
    compile_it = [path, *FLAGS, "-x", "c++", "-"]
    return ["sh", "-c", script, "sh", str(partial), str(whole), *compile_it]


def load(path: Path) -> ctypes.CDLL:
    """Load a compiled kernel. Raises OSError where the file is damaged."""
    return ctypes.CDLL(str(path), mode=os.RTLD_LOCAL | os.RTLD_NOW)
