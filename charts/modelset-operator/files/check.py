"""What `helm test` runs: does the API server serve OllamaModelSets, and is the operator ready?

Arguments: the address of the API server, and of the operator's readiness. It needs nothing but Python.
"""

import json
import pathlib
import ssl
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Callable

ACCOUNT = pathlib.Path("/var/run/secrets/kubernetes.io/serviceaccount")
GROUP = "/apis/modelset.dev/v1alpha1"
RESOURCES = {"ollamamodelsets", "ollamamodelsets/status", "ollamamodelsets/scale"}
# A Service and a NetworkPolicy that are new take the cluster some seconds to heed.
PATIENCE_SECONDS = 60.0
PAUSE_SECONDS = 2.0
TIMEOUT_SECONDS = 5.0


def get(url: str, account: pathlib.Path | None = None) -> bytes:
    """Return the body of an answer of 200; raise OSError with what is wrong.

    `account` is a service account's folder: who asks, and whom it trusts.
    """
    headers, context = {}, None
    if account is not None:
        headers = {"Authorization": f"Bearer {(account / 'token').read_text()}"}
        context = ssl.create_default_context(cafile=account / "ca.crt") if url.startswith("https:") else None
    request = urllib.request.Request(url, headers=headers)
    try:
        with urllib.request.urlopen(request, timeout=TIMEOUT_SECONDS, context=context) as reply:
            return reply.read()
    except urllib.error.HTTPError as error:
        raise OSError(f"{url} answers {error.code}: {error.read(1000).decode(errors='replace')}") from error


def serves_sets(api: str, account: pathlib.Path) -> None:
    """Raise OSError unless the API server serves OllamaModelSets."""
    listed = {one["name"] for one in json.loads(get(api + GROUP, account))["resources"]}
    if missing := RESOURCES - listed:
        raise OSError(f"{api + GROUP} does not list {', '.join(sorted(missing))}")


def patiently(check: Callable[[], object], patience: float, pause: float = PAUSE_SECONDS) -> str:
    """Return "" as soon as a check raises no OSError; what is wrong when it does for `patience` seconds."""
    deadline = time.monotonic() + patience
    while True:
        try:
            check()
        except OSError as problem:
            if time.monotonic() >= deadline:
                return str(problem)
            time.sleep(pause)
        else:
            return ""


def main(api: str, ready: str) -> None:
    """Say a line a check; exit with 1 when one fails."""
    checks = {
        "the API server serves OllamaModelSets": lambda: serves_sets(api, ACCOUNT),
        "the operator is ready": lambda: get(ready),
    }
    problems = []
    for name, check in checks.items():
        problem = patiently(check, PATIENCE_SECONDS)
        print(f"{'not ok' if problem else 'ok'}: {name}{': ' if problem else ''}{problem}", flush=True)
        problems.append(problem)
    sys.exit(any(problems))


if __name__ == "__main__":
    main(*sys.argv[1:])
