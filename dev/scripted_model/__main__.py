"""`python -m dev.scripted_model --port N [--pace human|full]`: serves on 127.0.0.1 until SIGTERM or SIGINT."""

import argparse
import asyncio
import logging
import signal
import sys

import uvloop
from aiohttp import web

from dev.scripted_model.server import ScriptedModelServer


async def serve(port: int, *, human_pace: bool) -> None:
    """Serves until a signal asks to stop. Its address is the first line on standard output; port 0 takes a free one."""
    stopping = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stopping.set)
    runner = web.AppRunner(
        ScriptedModelServer(human_pace=human_pace).app(),
        # A client that goes away ends its request's handler: this is how a stalled stream notices.
        handler_cancellation=True,
        access_log=None,
        shutdown_timeout=0.05,
    )
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", port).start()
    host, bound_port = runner.addresses[0][:2]
    print(f"http://{host}:{bound_port}", flush=True)
    await stopping.wait()
    await runner.cleanup()


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m dev.scripted_model", description="A model that needs no provider.")
    parser.add_argument("--port", type=int, required=True, help="on 127.0.0.1; 0 takes a free one")
    parser.add_argument(
        "--pace", choices=("human", "full"), default="human", help="human: about 40 tokens a second; full: no waiting"
    )
    options = parser.parse_args()
    logging.basicConfig(stream=sys.stderr, level=logging.INFO, format="%(message)s")
    uvloop.run(serve(options.port, human_pace=options.pace == "human"))


if __name__ == "__main__":
    main()
