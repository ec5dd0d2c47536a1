"""The web process: uvicorn on a socket that `manage.py up` opened.

The parent keeps the listening socket, so when this process is restarted, browsers wait in the socket's queue instead
of being refused, and nobody else can take the port.
"""

import argparse
import gc
import socket
import tempfile
from pathlib import Path

import uvicorn
from django.conf import settings


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--fd", type=int, required=True, help="the inherited, listening socket")
    listening = socket.socket(fileno=parser.parse_args().fd)
    config = uvicorn.Config(
        "trainhub.asgi:application",
        loop="uvloop",
        http="httptools",
        ws="websockets-sansio",
        lifespan="off",
        access_log=False,
        log_level="warning",
        ws_max_size=64 * 1024,  # clients only say what they want to see
        timeout_graceful_shutdown=2,
        server_header=False,
    )
    config.load()
    spool_at(Path(settings.HOME) / "uploads")
    gc.freeze()  # what is loaded now stays: collections need not look at it again
    uvicorn.Server(config).run(sockets=[listening])


def spool_at(folder: Path) -> None:
    """Bodies of requests wait there. Elsewhere they would go where temporary files do, which is often into memory."""
    folder.mkdir(parents=True, exist_ok=True)
    tempfile.tempdir = str(folder)


if __name__ == "__main__":
    main()
