"""Names of models as Ollama reads them: ``[host/][namespace/]model[:tag]`` (Ollama: types/model/name.go)."""

# Where Ollama listens unless it is told otherwise.
PORT = 11434
_HOST = "registry.ollama.ai"
_NAMESPACE = "library"
_TAG = "latest"


def canonical(name: str) -> str:
    """Return the one full spelling of a name, so that two spellings of one model compare equal.

    Ollama fills in its own registry, ``library`` and ``latest``, ignores case, and leaves a ``scheme://`` out
    of the name it stores.
    """
    rest = name.lower().partition("://")[2] or name.lower()
    path, _, last = rest.rpartition("/")
    model, _, tag = last.partition(":")
    host, _, namespace = path.rpartition("/")
    return f"{host or _HOST}/{namespace or _NAMESPACE}/{model}:{tag or _TAG}"


def served_names(name: str) -> tuple[str, ...]:
    """Return what clients may call a model that has no aliases: its name, and that without ``:latest``."""
    short = name.removesuffix(f":{_TAG}")
    return (name,) if short == name else (name, short)
