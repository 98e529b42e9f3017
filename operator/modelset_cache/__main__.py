"""`python -m modelset_cache`: run the cache."""

import argparse
import asyncio
import contextlib
import logging
import pathlib
import signal
import sys
from collections.abc import Sequence

from aiohttp import web

import modelset_cache
from modelset_cache import server, store, transfers, upstream


def parse(arguments: Sequence[str]) -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(prog="modelset_cache", description=modelset_cache.__doc__)
    parser.add_argument("--folder", type=pathlib.Path, required=True, help="where blobs are kept")
    parser.add_argument("--bytes", type=int, required=True, help="how large the volume is")
    parser.add_argument(
        "--insecure", action="append", default=[], metavar="HOST", help="asked over plain HTTP"
    )
    parser.add_argument("--credentials", type=pathlib.Path, metavar="FILE", help="a .dockerconfigjson")
    parser.add_argument("--port", type=int, default=5000, help="where Ollama pulls (%(default)s)")
    parser.add_argument("--watch-port", type=int, default=8081, help="/healthz, /metrics (%(default)s)")
    return parser.parse_args(arguments)


async def run(parsed: argparse.Namespace) -> None:
    """Serve until a signal says to stop."""
    limit = int(parsed.bytes * (1 - store.SPARE))
    stop = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, stop.set)
    async with contextlib.AsyncExitStack() as stack:
        session = await stack.enter_async_context(upstream.client())
        source = upstream.Upstream(session, parsed.insecure, parsed.credentials)
        blobs = transfers.Transfers(store.Store(parsed.folder, limit), source)
        routes = server.Routes(blobs, source, limit)
        for app, port in ((routes.app(), parsed.port), (server.watched(), parsed.watch_port)):
            runner = web.AppRunner(app, access_log=None, handler_cancellation=True)
            await runner.setup()
            stack.push_async_callback(runner.cleanup)
            # On all addresses of the pod, of either family.
            await web.TCPSite(runner, port=port, shutdown_timeout=5).start()
        await stop.wait()


def main(arguments: Sequence[str]) -> None:
    """Run until a signal says to stop."""
    logging.basicConfig(level="INFO", format="%(asctime)s %(levelname)s %(name)s: %(message)s")
    parsed = parse(arguments)
    with store.alone(parsed.folder):
        asyncio.run(run(parsed))


if __name__ == "__main__":
    main(sys.argv[1:])
