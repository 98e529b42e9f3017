"""The main job, shown: from whatever the machine has to an answer of a model on Kubernetes."""

from __future__ import annotations

import json
import time

from stack import cache, cluster, engine, golang, python
from stack.step import StepFailed, output, say, step

MODELSET = cache.REPOSITORY / "examples" / "modelset-airgapped.yaml"
CLIENT = cache.REPOSITORY / "examples" / "client.py"
NAME, NAMESPACE = "assistants", "default"
READY_SECONDS = 600


def run() -> None:
    """Bring everything up, apply the example, wait, ask both models."""
    started = time.monotonic()
    engine.ensure()
    client = python.environment("dev")
    cluster.up()
    say(f"• kubectl apply -f {MODELSET.relative_to(cache.REPOSITORY)}")
    cluster.kubectl("apply", "--filename", MODELSET)
    with step(f"wait until {NAME} is Ready"):
        _await_ready()
    print("\n$ kubectl get ollamamodelsets")
    print(cluster.kubectl("get", "ollamamodelsets", "--namespace", NAMESPACE))
    with cluster.forwarded(NAMESPACE, f"service/{NAME}-serve-svc", 8000) as port:
        print(f"$ python {CLIENT.relative_to(cache.REPOSITORY)} http://localhost:{port}/v1")
        print(output([client / "bin" / "python", CLIENT, f"http://127.0.0.1:{port}/v1"], timeout=300))
    print(_next_steps())
    say(f"✓ demo: {time.monotonic() - started:.0f} s")


def _await_ready() -> None:
    deadline = time.monotonic() + READY_SECONDS
    shown = ""
    while True:
        status = json.loads(
            cluster.kubectl("get", "ollamamodelset", NAME, "--namespace", NAMESPACE, "--output", "json")
        ).get("status", {})
        ready: dict[str, str] = next((c for c in status.get("conditions", []) if c["type"] == "Ready"), {})
        if ready.get("status") == "True":
            return
        if (summary := _summary(status, ready)) != shown:
            say(f"  {summary}")
            shown = summary
        if time.monotonic() > deadline:
            raise StepFailed(
                f"{NAME} is not Ready after {READY_SECONDS} s: {ready.get('message', 'no status yet')}\n"
                f"Look at: kubectl describe ollamamodelset {NAME}"
            )
        time.sleep(1)


def _summary(status: dict[str, object], ready: dict[str, str]) -> str:
    models = status.get("models", [])
    assert isinstance(models, list)
    parts = [f"{m['name']} {m.get('phase', '')} {m.get('progress', '')}".strip() for m in models]
    return "; ".join([*parts, ready.get("message", "")])


def _next_steps() -> str:
    return f"""Next, in this shell:

  export KUBECONFIG={cluster.kubeconfig()}
  alias kubectl={golang.tool("kubectl")}
  kubectl describe ollamamodelset {NAME}
  kubectl port-forward service/{NAME}-serve-svc 8000 &
  curl http://localhost:8000/v1/chat/completions -H 'Content-Type: application/json' \\
    -d '{{"model": "smollm2", "messages": [{{"role": "user", "content": "Hello!"}}]}}'

`make clean` removes all of it."""
