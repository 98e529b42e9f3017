"""Files on the cache's volume: blobs by digest, each in chunks that are as long as what has come of them.

Whatever ends the process, what was written counts: a download goes on at the byte where it was. A blob is
served while it comes, and kept only if it is what its digest says.
"""

import contextlib
import fcntl
import hashlib
import os
import pathlib
import re
import shutil
from collections.abc import Iterator

CHUNK_BYTES = 16 * 1024 * 1024
# Of a volume that file systems keep for themselves.
SPARE = 0.05
_DIGEST = re.compile(r"sha256:([0-9a-f]{64})")
_SIZE, _WHOLE, _LOCK = "size", "whole", "lock"


class NoRoomError(Exception):
    """What is to be kept is larger than what may go for it."""


class LyingError(Exception):
    """The bytes that came are not those of the digest."""


@contextlib.contextmanager
def alone(root: pathlib.Path) -> Iterator[None]:
    """Wait until no other process works on a folder, and keep others from it.

    A pod that was deleted by force may go on for some seconds beside the next one of its name.
    """
    root.mkdir(parents=True, exist_ok=True)
    with (root / _LOCK).open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


class Blob:
    """One blob, of `size` bytes: whole, or in part. Not for several threads at once, but for `read`."""

    def __init__(self, folder: pathlib.Path, digest: str, size: int, chunk_bytes: int) -> None:
        self.folder = folder
        self.digest = digest
        self.size = size
        self.chunk_bytes = chunk_bytes
        # By chunk: how many bytes of it are there.
        self.have = [_length(self._path(index)) for index in range(self.chunks)]

    @property
    def chunks(self) -> int:
        """How many chunks it has."""
        return -(-self.size // self.chunk_bytes)

    @property
    def complete(self) -> bool:
        """Whether all bytes are there, right or wrong."""
        return all(have == self.length(index) for index, have in enumerate(self.have))

    @property
    def whole(self) -> bool:
        """Whether all bytes are there and are those of the digest."""
        return (self.folder / _WHOLE).exists()

    def length(self, index: int) -> int:
        """Return how many bytes a chunk has once it is complete."""
        return min(self.chunk_bytes, self.size - index * self.chunk_bytes)

    def append(self, index: int, data: bytes) -> None:
        """Add bytes to a chunk. Raises OSError, as on a full disk; then it is as long as what was written."""
        path = self._path(index)
        try:
            with path.open("ab", buffering=0) as file:
                view = memoryview(data)
                while view:
                    view = view[file.write(view) :]
        finally:
            self.have[index] = _length(path)

    def read(self, offset: int, most: int) -> bytes:
        """Return bytes from an offset on that are there, of one chunk at most. Raises OSError."""
        index, start = divmod(offset, self.chunk_bytes)
        with self._path(index).open("rb") as file:
            file.seek(start)
            return file.read(min(most, self.have[index] - start))

    def verify(self) -> None:
        """Note that the blob is whole. Raises LyingError, OSError."""
        found = hashlib.sha256()
        for index in range(self.chunks):
            with self._path(index).open("rb") as file:
                while data := file.read(1024 * 1024):
                    found.update(data)
        if f"sha256:{found.hexdigest()}" != self.digest:
            raise LyingError(f"what came has the digest sha256:{found.hexdigest()}")
        (self.folder / _WHOLE).touch()

    def used(self) -> None:
        """Note that somebody wants it: what nobody has wanted for longest goes first."""
        os.utime(self.folder)

    def _path(self, index: int) -> pathlib.Path:
        return self.folder / str(index)


class Store:
    """All blobs on a volume, of `limit` bytes together at most."""

    def __init__(self, root: pathlib.Path, limit: int, chunk_bytes: int = CHUNK_BYTES) -> None:
        self.limit = limit
        self._root = root
        self._chunk_bytes = chunk_bytes

    def find(self, digest: str) -> Blob | None:
        """Return a blob that is there, in part at least."""
        folder = self._folder(digest)
        try:
            size = int((folder / _SIZE).read_text())
        except (OSError, ValueError):
            return None
        return Blob(folder, digest, size, self._chunk_bytes)

    def make(self, digest: str, size: int, in_use: frozenset[str] = frozenset()) -> Blob:
        """Begin a blob; others may go for it but those in use. Raises NoRoomError, OSError."""
        self._make_room(size, in_use)
        folder = self._folder(digest)
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir(parents=True)
        (folder / _SIZE).write_text(str(size))
        return Blob(folder, digest, size, self._chunk_bytes)

    def drop(self, digest: str) -> None:
        """Delete a blob."""
        shutil.rmtree(self._folder(digest), ignore_errors=True)

    def _make_room(self, size: int, in_use: frozenset[str]) -> None:
        found = [blob for folder in self._root.iterdir() if (blob := self.find(f"sha256:{folder.name}"))]
        found.sort(key=lambda blob: blob.folder.stat().st_mtime)
        kept = sum(blob.size for blob in found if blob.digest in in_use)
        if size + kept > self.limit:
            raise NoRoomError(f"{size} bytes are wanted, of {self.limit} for all; {kept} are in use")
        free = self.limit - sum(blob.size for blob in found)
        for blob in (blob for blob in found if blob.digest not in in_use):
            if free >= size:
                break
            self.drop(blob.digest)
            free += blob.size

    def _folder(self, digest: str) -> pathlib.Path:
        found = _DIGEST.fullmatch(digest)
        # What else is on a volume, such as lost+found, is no blob.
        return self._root / (found[1] if found else "none")


def _length(path: pathlib.Path) -> int:
    try:
        return path.stat().st_size
    except FileNotFoundError:
        return 0
