"""What a result must be read with: the machine, its load, the versions, the day."""

from __future__ import annotations

import datetime
import os
import platform
import re
from importlib import metadata
from pathlib import Path

from stack import golang, pins, python


def facts() -> dict[str, str]:
    """Describe the machine and what is compared, for the head of a report."""
    return {
        "date": datetime.datetime.now(datetime.UTC).date().isoformat(),
        "processor": f"{os.cpu_count()} cores, {_processor()}",
        "memory": f"{os.sysconf('SC_PAGE_SIZE') * os.sysconf('SC_PHYS_PAGES') / 2**30:.0f} GiB",
        "system": f"{platform.system()} {platform.release().split('-')[0]}",
        "Python": platform.python_version(),
        "load before": " ".join(f"{load:.1f}" for load in os.getloadavg()),
        "modelset-proxy": pins.load().version,
        "Ray": _version("dev", "ray"),
        "LiteLLM": _version("bench", "litellm"),
        "Ollama": golang.module_version("ollama", "github.com/ollama/ollama").removeprefix("v"),
    }


def _processor() -> str:
    found = re.search(r"^model name\s*: (.*)$", Path("/proc/cpuinfo").read_text(), re.MULTILINE)
    return found[1] if found else platform.machine()


def _version(environment: str, package: str) -> str:
    folders = [str(path) for path in (python.environment(environment) / "lib").glob("python3*/site-packages")]
    return next(iter(metadata.distributions(name=package, path=folders))).version
