"""What a result must be read with: the machine, its load, the versions, the day."""

from __future__ import annotations

import datetime
import os
import platform
import re
from pathlib import Path

from benchmarks import container
from stack import golang, pins


def facts() -> dict[str, str]:
    """Describe the machine and what is compared, for the head of a report."""
    return {
        **host(),
        "Python": container.python(),
        "modelset-proxy": pins.load().version,
        "Ray": _pinned("serve-app", "ray"),
        "LiteLLM": _pinned("bench", "litellm"),
        "Ollama": golang.module_version("ollama", "github.com/ollama/ollama").removeprefix("v"),
    }


def host() -> dict[str, str]:
    """Describe the machine, and when it was."""
    return {
        "date": datetime.datetime.now(datetime.UTC).date().isoformat(),
        "processor": f"{os.cpu_count()} cores, {_processor()}",
        "memory": f"{os.sysconf('SC_PAGE_SIZE') * os.sysconf('SC_PHYS_PAGES') / 2**30:.0f} GiB",
        "system": f"{platform.system()} {platform.release().split('-')[0]}",
        "load before": " ".join(f"{load:.1f}" for load in os.getloadavg()),
    }


def _processor() -> str:
    found = re.search(r"^model name\s*: (.*)$", Path("/proc/cpuinfo").read_text(), re.MULTILINE)
    return found[1] if found else platform.machine()


def _pinned(requirements: str, package: str) -> str:
    text = (pins.FOLDER / f"{requirements}.txt").read_text()
    found = re.search(rf"^{package}==(\S+)", text, re.MULTILINE)
    if found is None:
        raise LookupError(f"pins/{requirements}.txt does not pin {package}")
    return found[1]
