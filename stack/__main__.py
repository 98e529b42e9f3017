"""`python3 -m stack COMMAND`: what the Makefile calls."""

from __future__ import annotations

import argparse
from collections.abc import Callable

from stack import (
    audit,
    cleaning,
    cluster,
    compat,
    components,
    demo,
    engine,
    golang,
    models,
    python,
    release,
    step,
)


def _up() -> None:
    engine.ensure()
    cluster.up()


def _images() -> None:
    engine.ensure()
    for name in ("base", "kind-node", "kuberay", "ollama", "operator", "proxy"):
        print(f"{name:15} {components.ensure(name)}", flush=True)
    print(f"{'model-registry':15} {models.registry_image()}", flush=True)


def _down() -> None:
    engine.ensure()
    cluster.down()


COMMANDS: dict[str, tuple[Callable[[], None], str]] = {
    "up": (_up, "engine, images, kind cluster, KubeRay, model registry, operator"),
    "demo": (demo.run, "all of it, a model set, and its answers"),
    "images": (_images, "pull or build all images, and name them"),
    "push": (release.push, "our images and the chart into $REGISTRY"),
    "install": (release.install, "the chart from $REGISTRY onto the cluster that kubectl is set to"),
    "release": (release.run_release, "images, chart, signatures and notes of this version"),
    "audit": (audit.run, "known vulnerabilities of what others get"),
    "versions": (compat.print_versions, "which Kubernetes, KubeRay, Ray and Ollama these are"),
    "down": (_down, "delete the kind cluster"),
    "clean": (cleaning.run, "delete the cluster, the images and all that was built"),
}


def main() -> None:
    """Parse the command and run it."""
    parser = argparse.ArgumentParser(prog="python3 -m stack", description=__doc__)
    commands = parser.add_subparsers(dest="command", required=True)
    for name, (_, text) in COMMANDS.items():
        commands.add_parser(name, help=text)
    tool = commands.add_parser("tool", help="print the path of a pinned tool, built when it is missing")
    tool.add_argument("name", choices=sorted(golang.TOOLS))
    source = commands.add_parser("source", help="print the folder of a pinned module's sources")
    source.add_argument("name", choices=sorted(golang.SOURCES))
    environment = commands.add_parser("python", help="print the path of a Python environment")
    environment.add_argument("name", choices=["dev"])
    combinations = commands.add_parser("compat", help="a core of the tests on other versions")
    combinations.add_argument("names", nargs="*", help="folders of pins/compat; else all")
    arguments = parser.parse_args()
    step.main(lambda: _run(arguments))


def _run(arguments: argparse.Namespace) -> None:
    if arguments.command == "tool":
        print(golang.tool(arguments.name))
    elif arguments.command == "source":
        print(golang.module_folder(arguments.name, golang.SOURCES[arguments.name]))
    elif arguments.command == "python":
        print(python.environment(arguments.name))
    elif arguments.command == "compat":
        compat.run(arguments.names)
    else:
        COMMANDS[arguments.command][0]()


if __name__ == "__main__":
    main()
