"""Which models share a runner: Ollama keeps one by the file of the weights, whatever the model is called, as
long as adapters, projectors and runner options are the same (Ollama: server/sched.go).
"""

import asyncio
import collections
from collections.abc import Iterable

import msgspec

from modelset_proxy.engines import port
from modelset_proxy.engines.ollama import answers, http

# Beside the length of context, which requests may bring.
_RUNNER_OPTIONS = {"num_batch", "num_gpu", "main_gpu", "use_mmap", "num_thread"}
_FILES = {"FROM", "ADAPTER"}
_MOST_REMEMBERED = 1024


class Runner(msgspec.Struct, frozen=True):
    """What a runner is kept by, as in ``port.Held``; no context is longer than ``longest_context``, 0 is
    unknown.
    """

    weights: str = ""
    context_length: int = 0
    longest_context: int = 0


UNKNOWN = Runner()


class Weights:
    """Asks servers about each digest once, in the background: no look waits for it."""

    def __init__(self, connections: http.Http) -> None:
        self._http = connections
        self._known: collections.OrderedDict[str, Runner] = collections.OrderedDict()
        self._asking: dict[str, asyncio.Task[None]] = {}

    def of(self, digest: str, until_known: Runner = UNKNOWN) -> Runner:
        """Return the runner of a model, as far as it is known."""
        return self._known.get(digest, until_known)

    def learn(self, url: str, models: Iterable[answers.HeldModel]) -> None:
        """Ask a server about those of its models that are not known, one after the other."""
        self._asking = {server: task for server, task in self._asking.items() if not task.done()}
        unknown = [model for model in models if model.digest and model.digest not in self._known]
        if unknown and url not in self._asking:
            self._asking[url] = asyncio.create_task(self._ask(url, unknown), name=f"weights at {url}")

    async def close(self) -> None:
        """Stop asking."""
        asking = list(self._asking.values())
        for task in asking:
            task.cancel()
        await asyncio.gather(*asking, return_exceptions=True)

    async def _ask(self, url: str, models: Iterable[answers.HeldModel]) -> None:
        for model in models:
            if model.digest in self._known:
                continue
            try:
                shown = await self._http.show(url, model.name)
            except port.UnreachableError:
                return  # the next look asks again
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
