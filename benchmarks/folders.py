"""Temporary folders whose names are short: Ray and HAProxy put sockets into them, whose paths are limited."""

from __future__ import annotations

import contextlib
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path


@contextlib.contextmanager
def short() -> Iterator[Path]:
    """Make a folder and delete it afterwards."""
    folder = Path(tempfile.mkdtemp(prefix="mb-"))
    try:
        yield folder
    finally:
        # What just ended may still be deleting its own files.
        shutil.rmtree(folder, ignore_errors=True)
