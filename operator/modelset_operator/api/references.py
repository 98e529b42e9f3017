"""Ollama model references: parsing, defaults, and how a registry of one's own changes them.

Source of the rules: Ollama 0.17, types/model/name.go (ParseName, isValidPart, DisplayShortest).
"""

import dataclasses
import functools
import re

DEFAULT_HOST = "registry.ollama.ai"
DEFAULT_NAMESPACE = "library"
DEFAULT_TAG = "latest"
# What the host of a model's older version begins with, while a newer one is pulled in its place.
_ASIDE = "replaced."
# What each part may be, in the order of the fields of a Reference.
_PARTS = (
    re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.:-]{0,349}"),
    re.compile(r"[A-Za-z0-9_][A-Za-z0-9_-]{0,79}"),
    re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,79}"),
    re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,79}"),
)


@dataclasses.dataclass(frozen=True)
class Reference:
    """A fully qualified model: `{host}/{namespace}/{model}:{tag}`."""

    host: str
    namespace: str
    model: str
    tag: str

    def __str__(self) -> str:
        """Return the name as /api/tags reports it: full, or shortened under the default registry."""
        name = f"{self.model}:{self.tag}"
        if self.host.lower() != DEFAULT_HOST:
            return f"{self.host}/{self.namespace}/{name}"
        if self.namespace.lower() != DEFAULT_NAMESPACE:
            return f"{self.namespace}/{name}"
        return name

    @property
    def manifest_path(self) -> str:
        """Return where Ollama keeps the manifest (types/model, Filepath), with case folded."""
        return f"{self.host}/{self.namespace}/{self.model}/{self.tag}".lower()

    @functools.cached_property
    def key(self) -> str:
        """What two references have in common when Ollama takes them for the same model (it folds case)."""
        return str(self).lower()


def parse(text: str, default_host: str = DEFAULT_HOST) -> Reference:
    """Parse `[[host[:port]/]namespace/]model[:tag]`.

    `default_host` stands in where the text names no host. A scheme in front of the host is dropped, as
    Ollama does when it reports names. Raises ValueError where Ollama would take it for no name.
    """
    rest, tag = text, DEFAULT_TAG
    if text.rfind(":") > text.rfind("/"):
        rest, _, tag = text.rpartition(":")
    path, slash, model = rest.rpartition("/")
    host, _, namespace = path.rpartition("/")
    host = host.partition("://")[2] or host
    values = host or default_host, namespace or DEFAULT_NAMESPACE, model, tag
    if slash and not host and re.search("[.:]", namespace):
        full = f"{namespace}/{DEFAULT_NAMESPACE}/{model}:{tag}"
        raise ValueError(f"{text!r} is not a model reference: a host needs a namespace too, as in {full}")
    parts = zip(_PARTS, values, strict=True)
    if (slash and not namespace) or not all(rule.fullmatch(part) for rule, part in parts):
        raise ValueError(f"{text!r} is not a model reference ([[host[:port]/]namespace/]model[:tag])")
    return Reference(*values)


def aside(reference: Reference) -> Reference:
    """Return under which name a model is kept while another version of it takes its own: nobody wants it."""
    return dataclasses.replace(reference, host=_ASIDE + reference.host)


def is_aside(name: str) -> bool:
    """Whether a name is one of `aside`."""
    return name.startswith(_ASIDE)


def default_served_names(name: str) -> tuple[str, ...]:
    """Return what clients may send for a model without servedNames: its name, also without `:latest`."""
    short = name.removesuffix(f":{DEFAULT_TAG}")
    return (name,) if short == name else (name, short)
