"""Tells a server that is at work from one that hangs: a frozen runner leaves all its lists green. Pure.

A copy is silent while something runs there, is waited for, and nothing of it comes. Before that is held
against it, the server is asked to touch the model, which takes no slot and which only a runner that lives can
answer. A server that hangs gets nothing until it has answered something short.
"""

from collections.abc import Mapping

from modelset_proxy.dispatch import estimates, facts, memory
from modelset_proxy.dispatch.state import State

# Everything together stays below ten seconds, with the second that may pass between two checks.
_ASK_AFTER_SECONDS = 2.5
_ANSWERS_WITHIN_SECONDS = 5.0
# A runner that lives may compute for ever: its prompts should not take this many times what is expected.
_SLOW_FACTOR = 10.0
_SLOWEST_SECONDS = 120.0
# Nobody knows how long a load takes that was never seen; Ollama itself gives up after five minutes.
_FIRST_LOAD_SECONDS = 330.0
_LOAD_FACTOR = 5.0
_SHORTEST_LOAD_SECONDS = 30.0
_AGAIN_SECONDS = 2.0


def check(
    state: State, now: float, waited_for: Mapping[tuple[str, str], bool]
) -> tuple[list[facts.Try], list[memory.Copy]]:
    """Return which servers to try now, and the copies that hang; their servers are sick from here on.

    ``waited_for`` are the URLs and models of which somebody waits to hear, and whether as a stream: an answer
    that comes whole is silent until it comes. Where all clients have yet to take what came, nothing can be
    said.
    """
    tries: list[facts.Try] = []
    hanging: list[memory.Copy] = []
    for server in state.servers.values():
        here: dict[str, bool] = {}
        for (url, model), streams in waited_for.items():
            if url == server.url:
                lead = server.lead(model)
                here[lead] = here.get(lead, False) or streams
        for copy in server.copies.values():
            expected = here.get(copy.model)
            if not copy.running or expected is None:
                copy.heard = now
            elif _hangs(state, copy, now, streams=expected):
                hanging.append(copy)
                server.sick = copy.model
            elif not copy.loading and now - copy.heard >= _ASK_AFTER_SECONDS:
                _try(server, copy.model, now, tries)
        if server.sick and server.reachable:
            _try(server, server.sick, now, tries)
    return tries, hanging


def tried(server: memory.Server, now: float, *, whole: bool, answered: bool) -> None:
    """Take in how a try went. Who hangs is well again with a whole answer only."""
    server.trying = None
    server.try_after = now + _AGAIN_SECONDS
    if answered and server.sick and not whole:
        server.try_after = now
    elif answered and server.sick:
        server.sick = ""
        server.failures = 0
        server.avoid_until = 0.0


def load_patience(known: estimates.Model, url: str) -> float:
    """Return how many seconds a load may take."""
    if not known.has_loaded:
        return _FIRST_LOAD_SECONDS
    return max(_SHORTEST_LOAD_SECONDS, _LOAD_FACTOR * known.load_seconds(url))


def _try(server: memory.Server, model: str, now: float, tries: list[facts.Try]) -> None:
    if server.trying is None and now >= server.try_after:
        server.trying = now
        tries.append(facts.Try(model, server.url, whole=bool(server.sick)))


def _hangs(state: State, copy: memory.Copy, now: float, *, streams: bool) -> bool:
    silence = now - copy.heard
    known = state.known(copy.model)
    if copy.loading:
        return silence > load_patience(known, copy.server.url)
    trying = copy.server.trying
    if trying is not None and silence > now - trying and now - trying >= _ANSWERS_WITHIN_SECONDS:
        return True
    return streams and silence > max(
        _SLOWEST_SECONDS, _SLOW_FACTOR * known.prompt_seconds(copy.unread_tokens)
    )
