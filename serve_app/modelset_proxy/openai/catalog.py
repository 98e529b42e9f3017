"""The models that clients may ask for, and the replies of ``/v1/models``, made once a change."""

from collections.abc import Iterable

import msgspec

from modelset_proxy.openai import errors

CHAT = "Chat"
EMBEDDING = "Embedding"
# Nobody knows what the model is for: its server decides what it answers.
ANY = "Any"


class Model(msgspec.Struct, frozen=True, kw_only=True):
    """One model behind one or more served names.

    ``name`` is what the upstream calls it; ``capabilities`` is None where nobody asked the upstream yet;
    ``keep_alive`` says how long servers keep it in memory, in the engine's own words, and ``context_length``
    how many tokens it takes, where servers can be told; ``created`` is in Unix seconds.
    """

    name: str
    served_names: tuple[str, ...]
    kind: str
    capabilities: frozenset[str] | None = None
    keep_alive: str | None = None
    context_length: int | None = None
    created: int = 0

    def can(self, capability: str) -> bool:
        """Tell whether the model may have a capability; unknown counts as yes, the upstream then decides."""
        return self.capabilities is None or capability in self.capabilities


class Catalog:
    """An immutable view of the served models, looked up by served name.

    Until it is ``known`` which those are, nobody can say of a name that there is no such model.
    """

    def __init__(self, models: Iterable[Model] = (), *, known: bool = True) -> None:
        self.models = tuple(models)
        self._known = known
        self._by_name = {served: model for model in self.models for served in model.served_names}
        self._entries = {
            served: msgspec.json.encode(_entry(served, model)) for served, model in self._by_name.items()
        }
        self.listing = (
            b'{"object":"list","data":['
            + b",".join(self._entries[served] for served in sorted(self._entries))
            + b"]}"
        )

    @property
    def served_names(self) -> list[str]:
        """All served names, sorted."""
        return sorted(self._by_name)

    def entry(self, served: str) -> bytes:
        """Return the reply to ``GET /v1/models/{id}``, or raise a 404 or a 503."""
        try:
            return self._entries[served]
        except KeyError:
            raise self._missing(served) from None

    def find(self, served: str, kind: str, path: str) -> Model:
        """Return the model behind a served name; raise a 404 or a 503, or a 400 for the other kind."""
        model = self._by_name.get(served)
        if model is None:
            raise self._missing(served)
        if model.kind not in (kind, ANY):
            wanted = "a chat" if kind == CHAT else "an embedding"
            raise errors.wrong_kind(served, wanted=wanted, path=path)
        return model

    def _missing(self, served: str) -> errors.ApiError:
        return errors.model_not_found(served) if self._known else errors.models_not_known()


def _entry(served: str, model: Model) -> dict[str, object]:
    return {"id": served, "object": "model", "created": model.created, "owned_by": "ollama"}
