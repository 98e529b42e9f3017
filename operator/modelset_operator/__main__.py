"""`python -m modelset_operator`: run the operator."""

import argparse
import asyncio
import dataclasses
import json
import logging
import os
import socket
import sys
from collections.abc import Sequence
from typing import Any

import kopf

import modelset_operator
from modelset_operator import handlers
from modelset_operator.api import neighbours, spec

DEFAULT_OLLAMA_IMAGE = "ollama/ollama:0.17.4"
DEFAULT_PROXY_IMAGE = f"modelset-proxy:{modelset_operator.__version__}"
DEFAULT_CACHE_IMAGE = f"modelset-operator:{modelset_operator.__version__}"


def parse(arguments: Sequence[str]) -> argparse.Namespace:
    """Read the command line; what it leaves open comes from the environment, then from defaults."""
    parser = argparse.ArgumentParser(prog="modelset_operator", description=modelset_operator.__doc__)
    parser.add_argument("--version", action="version", version=modelset_operator.__version__)
    parser.add_argument(
        "--ollama-image",
        default=os.environ.get("OLLAMA_IMAGE", DEFAULT_OLLAMA_IMAGE),
        help="for sets that do not set spec.ollama.image ($OLLAMA_IMAGE, %(default)s)",
    )
    parser.add_argument(
        "--proxy-image",
        default=os.environ.get("PROXY_IMAGE", DEFAULT_PROXY_IMAGE),
        help="for sets that do not set spec.proxy.image ($PROXY_IMAGE, %(default)s)",
    )
    parser.add_argument(
        "--cache-image",
        default=os.environ.get("CACHE_IMAGE", DEFAULT_CACHE_IMAGE),
        help="of sets' registry caches; the operator's own has it ($CACHE_IMAGE, %(default)s)",
    )
    parser.add_argument(
        "--watch-namespaces",
        default=os.environ.get("WATCH_NAMESPACES", ""),
        metavar="A,B",
        help="serve only these namespaces ($WATCH_NAMESPACES; all of them by default)",
    )
    parser.add_argument(
        "--instance",
        default=os.environ.get("INSTANCE", "modelset-operator"),
        metavar="NAME",
        help="names the Lease of all replicas, and with the namespace the operator in the sets that it claims"
        " ($INSTANCE, %(default)s)",
    )
    parser.add_argument(
        "--adopt",
        default=os.environ.get("ADOPT", ""),
        metavar="NAMESPACE/NAME,...",
        help="operators that are gone, whose sets this one takes over ($ADOPT)",
    )
    parser.add_argument(
        "--metrics-port",
        type=int,
        default=int(os.environ.get("METRICS_PORT", "8081")),
        metavar="PORT",
        help="where to answer /metrics and /readyz ($METRICS_PORT, %(default)s)",
    )
    parser.add_argument(
        "--liveness",
        default=os.environ.get("LIVENESS", "http://0.0.0.0:8080/healthz"),
        metavar="URL",
        help="where to tell that reconciling works ($LIVENESS, %(default)s)",
    )
    parser.add_argument(
        "--log-level", default=os.environ.get("LOG_LEVEL", "INFO"), help="$LOG_LEVEL, %(default)s"
    )
    _add_neighbours(parser)
    return parser.parse_args(arguments)


def _add_neighbours(parser: argparse.ArgumentParser) -> None:
    """Add what NetworkPolicies are to know of pods outside of sets."""
    parser.add_argument(
        "--namespace",
        default=os.environ.get("POD_NAMESPACE", ""),
        help="where the operator's own pods are, and its Lease ($POD_NAMESPACE; outside of the cluster, the"
        " Lease in default)",
    )
    parser.add_argument(
        "--pod-labels",
        type=_labels,
        default=os.environ.get("POD_LABELS", ""),
        metavar="A=B,C=D",
        help="labels of the operator's own pods ($POD_LABELS)",
    )
    parser.add_argument(
        "--kuberay-namespaces",
        type=_listed,
        default=os.environ.get("KUBERAY_NAMESPACES", ""),
        metavar="A,B",
        help="where KubeRay's operator runs ($KUBERAY_NAMESPACES; anywhere by default)",
    )
    parser.add_argument(
        "--metrics-from",
        type=_peers,
        default=os.environ.get("METRICS_FROM", "[]"),
        metavar="JSON",
        help="who may read the metrics of sets' pods, as a NetworkPolicy's `from` ($METRICS_FROM; nobody)",
    )


def _listed(text: str) -> tuple[str, ...]:
    return tuple(filter(None, (part.strip() for part in text.split(","))))


def _labels(text: str) -> dict[str, str]:
    pairs = (part.partition("=") for part in _listed(text))
    return {name: value for name, _, value in pairs}


def _peers(text: str) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = json.loads(text)
    return found


def around(parsed: argparse.Namespace) -> neighbours.Neighbours:
    """Return what the command line says of pods outside of sets."""
    own = neighbours.Pods(parsed.pod_labels, (parsed.namespace,)) if parsed.namespace else None
    kuberay = dataclasses.replace(neighbours.KUBERAY, namespaces=parsed.kuberay_namespaces)
    return neighbours.Neighbours(own, kuberay, parsed.metrics_from)


def main(arguments: Sequence[str]) -> None:
    """Run until a signal says to stop."""
    parsed = parse(arguments)
    logging.basicConfig(
        level=parsed.log_level.upper(), format="%(asctime)s %(levelname)s %(name)s: %(message)s"
    )
    # kopf tells of every handled event and probe, httpx of every request; what matters the reconcile tells.
    for chatty in ("kopf.objects", "kopf.activities.probe", "aiohttp.access", "httpx"):
        logging.getLogger(chatty).setLevel(logging.WARNING)
    namespaces = _listed(parsed.watch_namespaces)
    options = handlers.Options(
        images=spec.Images(parsed.ollama_image, parsed.proxy_image, parsed.cache_image),
        namespaces=namespaces,
        around=around(parsed),
        namespace=parsed.namespace or "default",
        instance=parsed.instance,
        adopts=_listed(parsed.adopt),
        replica=socket.gethostname(),
        metrics_port=parsed.metrics_port,
    )
    registry = kopf.OperatorRegistry()
    handlers.register(registry, options)
    asyncio.run(
        kopf.operator(
            registry=registry,
            standalone=True,
            clusterwide=not namespaces,
            namespaces=namespaces,
            liveness_endpoint=parsed.liveness,
        )
    )


if __name__ == "__main__":
    main(sys.argv[1:])
