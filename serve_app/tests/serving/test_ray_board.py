"""Where the proxies' common board is put."""

from typing import Any

import pytest

from modelset_proxy.serving import ray_board


class Actors:
    """Stands in for Ray: keeps how an actor was asked for."""

    def __init__(self) -> None:
        self.options: dict[str, Any] = {}

    def remote(self, **options: Any) -> Any:
        self.options |= options
        return lambda _: _Remote(self)


class _Remote:
    def __init__(self, actors: Actors) -> None:
        self._actors = actors

    def options(self, **options: Any) -> "_Remote":
        self._actors.options |= options
        return self

    def remote(self) -> str:
        return "handle"


def test_the_board_is_at_the_head_so_that_it_keeps_no_worker_from_going(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    actors = Actors()
    monkeypatch.setattr(ray_board.ray, "remote", actors.remote)
    assert ray_board._actor() == "handle"
    assert actors.options["resources"].keys() == {"node:__internal_head__"}
    assert actors.options["num_cpus"] == 0
    assert (actors.options["lifetime"], actors.options["get_if_exists"]) == ("detached", True)
