"""The web process: uvicorn on a socket that `manage.py up` opened.

The parent keeps the listening socket, so when this process is restarted, browsers wait in the socket's queue instead
of being refused, and nobody else can take the port.
"""

import argparse
import gc
import socket

import uvicorn


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
    gc.freeze()  # what is loaded now stays: collections need not look at it again
    uvicorn.Server(config).run(sockets=[listening])


if __name__ == "__main__":
    main()
