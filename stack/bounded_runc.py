#!/usr/bin/env python3
"""An OCI runtime: runc, asked only for capabilities that the machine's bounding set holds.

The engine runs it in place of runc (`dockerd --add-runtime`). It takes the missing capabilities out of
the bundle's config.json on `create` and out of the process file on `exec`, then becomes runc.
"""

import json
import os
import re
import sys
from pathlib import Path

# linux/capability.h, by bit number.
CAPABILITY_NAMES = """
CHOWN DAC_OVERRIDE DAC_READ_SEARCH FOWNER FSETID KILL SETGID SETUID SETPCAP LINUX_IMMUTABLE NET_BIND_SERVICE
NET_BROADCAST NET_ADMIN NET_RAW IPC_LOCK IPC_OWNER SYS_MODULE SYS_RAWIO SYS_CHROOT SYS_PTRACE SYS_PACCT
SYS_ADMIN SYS_BOOT SYS_NICE SYS_RESOURCE SYS_TIME SYS_TTY_CONFIG MKNOD LEASE AUDIT_WRITE AUDIT_CONTROL SETFCAP
MAC_OVERRIDE MAC_ADMIN SYSLOG WAKE_ALARM BLOCK_SUSPEND AUDIT_READ PERFMON BPF CHECKPOINT_RESTORE
"""
CAPABILITIES = CAPABILITY_NAMES.split()


def bounding_set() -> set[str]:
    """Names of the capabilities this process may give to a container."""
    status = Path("/proc/self/status").read_text()
    match = re.search(r"^CapBnd:\s*([0-9a-f]+)$", status, re.MULTILINE)
    bits = int(match[1], 16) if match else 0
    return {f"CAP_{name}" for bit, name in enumerate(CAPABILITIES) if bits & (1 << bit)}


def bound(process: dict[str, object]) -> None:
    """Take capabilities out of an OCI process object that the bounding set lacks."""
    capabilities = process.get("capabilities")
    if isinstance(capabilities, dict):
        held = bounding_set()
        for name, wanted in capabilities.items():
            capabilities[name] = [c for c in wanted if c in held]


def option(arguments: list[str], *names: str) -> str | None:
    """The value of a command-line option, given as `--name value` or `--name=value`."""
    for index, argument in enumerate(arguments):
        for name in names:
            if argument == name and index + 1 < len(arguments):
                return arguments[index + 1]
            if argument.startswith(name + "="):
                return argument.split("=", 1)[1]
    return None


def main(arguments: list[str]) -> None:
    """Edit what the engine wrote, then become runc."""
    if "create" in arguments or "run" in arguments:
        path = Path(option(arguments, "--bundle", "-b") or ".") / "config.json"
        config = json.loads(path.read_text())
        bound(config.get("process", {}))
        path.write_text(json.dumps(config))
    elif "exec" in arguments and (process_file := option(arguments, "--process", "-p")):
        path = Path(process_file)
        process = json.loads(path.read_text())
        bound(process)
        path.write_text(json.dumps(process))
    os.execvp("runc", ["runc", *arguments])  # noqa: S606 (becomes runc, by intent)


if __name__ == "__main__":
    main(sys.argv[1:])
