"""Which models share a runner: Ollama keeps one by the file of the weights, whatever the model is called, as
long as adapters, projectors and runner options are the same (Ollama: server/sched.go).
"""

import asyncio
import collections
from collections.abc import Iterable, Iterator

import msgspec

from modelset_proxy.engines import port
from modelset_proxy.engines.ollama import answers, http

# Beside the length of context, which requests may bring.
_RUNNER_OPTIONS = {"num_batch", "num_gpu", "main_gpu", "use_mmap", "num_thread"}
_FILES = {"FROM", "ADAPTER"}
_MOST_REMEMBERED = 1024
_AT_ONCE = 8
# A model that is not known yet is taken for one with a runner of its own, and would be loaded in place of the
# variant that has the same. Answers take some milliseconds; a server that hangs holds up one look only.
_PATIENCE_SECONDS = 2.0


class Runner(msgspec.Struct, frozen=True):
    """What a runner is kept by, as in ``port.Held``; no context is longer than ``longest_context``, 0 is
    unknown.
    """

    weights: str = ""
    context_length: int = 0
    longest_context: int = 0

    @property
    def file(self) -> str:
        """The file of the weights alone, by which Ollama finds what is in the way of a runner."""
        return self.weights.partition("\n")[0]


UNKNOWN = Runner()


class Weights:
    """Asks servers about each digest once; a look waits for it for a moment at most."""

    def __init__(self, connections: http.Http) -> None:
        self._http = connections
        self._known: collections.OrderedDict[str, Runner] = collections.OrderedDict()
        self._asking: dict[str, asyncio.Task[None]] = {}

    def of(self, digest: str, until_known: Runner = UNKNOWN) -> Runner:
        """Return the runner of a model, as far as it is known."""
        return self._known.get(digest, until_known)

    async def learn(self, url: str, models: Iterable[answers.HeldModel]) -> None:
        """Ask a server about those of its models that are not known, several at once.

        Returns when they are, or after 2 s, and at once while the server is still being asked: a look waits
        once.
        """
        self._asking = {server: task for server, task in self._asking.items() if not task.done()}
        unknown = {
            model.digest: model for model in models if model.digest and model.digest not in self._known
        }
        if unknown and url not in self._asking:
            task = asyncio.create_task(self._ask(url, unknown.values()), name=f"weights at {url}")
            self._asking[url] = task
            await asyncio.wait([task], timeout=_PATIENCE_SECONDS)

    async def close(self) -> None:
        """Stop asking."""
        asking = list(self._asking.values())
        for task in asking:
            task.cancel()
        await asyncio.gather(*asking, return_exceptions=True)

    async def _ask(self, url: str, models: Iterable[answers.HeldModel]) -> None:
        left = iter(models)
        try:
            async with asyncio.TaskGroup() as group:
                for _ in range(_AT_ONCE):
                    group.create_task(self._ask_in_turn(url, left))
        except* port.UnreachableError:
            pass  # the next look asks again

    async def _ask_in_turn(self, url: str, left: Iterator[answers.HeldModel]) -> None:
        for model in left:
            if model.digest in self._known:
                continue
            shown = await self._http.show(url, model.name)
            self._known[model.digest] = UNKNOWN if shown is None else runner(shown)
            if len(self._known) > _MOST_REMEMBERED:
                self._known.popitem(last=False)


def runner(shown: answers.Show) -> Runner:
    """Return what a model's runner is kept by.

    The files come first in what Ollama makes of a model. What follows may be anybody's words, and so is not
    read; Ollama gives parameters once more by themselves, their strings quoted.
    """
    files: list[str] = []
    for line in shown.modelfile.splitlines():
        command, _, argument = line.partition(" ")
        if command in _FILES:
            # Servers may keep their files in different folders.
            files.append(f"{command} {argument.strip().rpartition('/')[2]}")
        elif command and not command.startswith("#"):
            break
    if not files or not files[0].startswith("FROM sha256"):
        return Runner(longest_context=shown.longest_context)
    options = dict(line.split(None, 1) for line in shown.parameters.splitlines() if len(line.split()) > 1)
    set_here = sorted(f"{name} {options[name]}" for name in _RUNNER_OPTIONS & options.keys())
    length = options.get("num_ctx", "")
    return Runner(
        "\n".join([*files, *set_here]), int(length) if length.isdecimal() else 0, shown.longest_context
    )
