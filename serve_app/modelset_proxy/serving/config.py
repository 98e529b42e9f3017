"""Settings: the Serve ``user_config`` that the operator renders, and the environment.

``user_config.schema.json`` beside this package is the contract for the first.
"""

import os
from collections.abc import Mapping
from typing import Annotated, Any, Literal

import msgspec

from modelset_proxy.dispatch import addresses, facts
from modelset_proxy.engines.ollama import names
from modelset_proxy.openai import catalog

_KEEP_ALIVE = r"^(-?[0-9]+|(-?([0-9]+(\.[0-9]+)?(ns|us|µs|ms|s|m|h))+))$"
_LOCAL_ORIGINS = (
    "http://localhost",
    "http://localhost:*",
    "https://localhost",
    "https://localhost:*",
    "http://127.0.0.1",
    "http://127.0.0.1:*",
    "https://127.0.0.1",
    "https://127.0.0.1:*",
)

# The engines there are: Ollama's native API, and any server that speaks OpenAI's.
OLLAMA, OPENAI = "ollama", "openai"

Name = Annotated[str, msgspec.Meta(min_length=1)]


class ConfigError(ValueError):
    """Settings that cannot be used; the message names the setting."""


class ModelConfig(msgspec.Struct, rename="camel"):
    """One entry of ``models`` in ``user_config``."""

    model: Name
    served_names: Annotated[list[Name], msgspec.Meta(min_length=1)]
    type: Literal["Chat", "Embedding"]
    created: Annotated[int, msgspec.Meta(ge=0)]
    capabilities: list[str] | None = None
    keep_alive: Annotated[str, msgspec.Meta(pattern=_KEEP_ALIVE)] | None = None
    context_length: Annotated[int, msgspec.Meta(ge=1)] | None = None


class UpstreamConfig(msgspec.Struct, rename="camel"):
    """Servers of models: all that the name of the URL stands for."""

    url: Name


class CorsConfig(msgspec.Struct, rename="camel"):
    """Which web pages may call the API: origins, with ``*`` for any run of characters."""

    allow_origins: list[Name] = []


class DemandConfig(msgspec.Struct, rename="camel"):
    """Who may read the demand feed: whoever has the token of this SHA-256, in hexadecimal digits."""

    token_sha256: Annotated[str, msgspec.Meta(pattern=r"^[0-9a-f]{64}$")]


class UserConfig(msgspec.Struct, rename="camel"):
    """The whole ``user_config``. Fields of a newer operator are ignored.

    Without upstreams the environment says where the servers are; without ``demand`` nobody reads the feed.
    """

    models: list[ModelConfig]
    upstreams: list[UpstreamConfig] = []
    cors: CorsConfig = msgspec.field(default_factory=CorsConfig)
    limits: facts.Limits = facts.Limits()
    demand: DemandConfig | None = None

    def urls(self) -> tuple[str, ...]:
        """Return where the servers are; raises ConfigError."""
        try:
            return tuple(addresses.base_url(upstream.url, names.PORT) for upstream in self.upstreams)
        except ValueError as problem:
            raise ConfigError(f"user_config: upstreams: {problem}") from None

    def catalog(self) -> catalog.Catalog:
        """Return the models as the rest of the proxy knows them."""
        return catalog.Catalog(
            catalog.Model(
                name=entry.model,
                served_names=tuple(entry.served_names),
                kind=entry.type,
                capabilities=None if entry.capabilities is None else frozenset(entry.capabilities),
                keep_alive=entry.keep_alive,
                context_length=entry.context_length,
                created=entry.created,
            )
            for entry in self.models
        )


def user_config(given: Mapping[str, Any]) -> UserConfig:
    """Check and convert a ``user_config``; raises ConfigError."""
    try:
        config = msgspec.convert(given, UserConfig)
    except msgspec.ValidationError as problem:
        raise ConfigError(f"user_config: {problem}") from None
    seen: set[str] = set()
    for entry in config.models:
        for name in entry.served_names:
            if name in seen:
                raise ConfigError(f"user_config: two models are served as {name!r}")
            seen.add(name)
    config.urls()
    return config


class Environment(msgspec.Struct, frozen=True):
    """What the process is told by its environment; the lists matter without Kubernetes only."""

    engine: str = OLLAMA
    ollama_urls: tuple[str, ...] = ("http://127.0.0.1:11434",)
    chat_models: tuple[str, ...] = ()
    embedding_models: tuple[str, ...] = ()
    pull_insecure: bool = False
    keep_alive: str | None = None
    cors_origins: tuple[str, ...] = _LOCAL_ORIGINS
    allowed_hosts: tuple[str, ...] = ()
    log_level: str = "INFO"
    api_keys_dir: str | None = None
    refresh_seconds: float = 3.0


def environment(variables: Mapping[str, str] | None = None) -> Environment:
    """Read the environment; raises ConfigError.

    ``PROXY_ENGINE`` (``ollama``, or ``openai`` for servers of OpenAI's API, all of whose models are served),
    ``OLLAMA_URL`` (comma separated: the servers, of either kind), ``OLLAMA_CHAT_MODELS``,
    ``OLLAMA_EMBEDDING_MODELS`` (comma separated), ``OLLAMA_PULL_INSECURE`` (``true``: registries answer over
    plain HTTP), ``OLLAMA_KEEP_ALIVE`` (a Go duration or whole seconds), ``PROXY_CORS_ORIGINS`` (comma
    separated, default pages of this machine), ``PROXY_ALLOWED_HOSTS`` (comma separated: further names of this
    machine, see ``guard``), ``PROXY_API_KEYS_DIR`` (see ``access``; without it everybody may call) and
    ``PROXY_LOG_LEVEL``.
    """
    variables = os.environ if variables is None else variables
    default = Environment()
    engine = _engine(variables)
    keep_alive = variables.get("OLLAMA_KEEP_ALIVE", "").strip() or None
    if keep_alive is not None:
        try:
            msgspec.convert(keep_alive, Annotated[str, msgspec.Meta(pattern=_KEEP_ALIVE)])
        except msgspec.ValidationError:
            raise ConfigError(
                f"OLLAMA_KEEP_ALIVE: {keep_alive!r} is neither whole seconds nor a duration such as 5m"
            ) from None
    insecure = variables.get("OLLAMA_PULL_INSECURE", "").strip().lower() or "false"
    if insecure not in {"true", "false"}:
        raise ConfigError(f"OLLAMA_PULL_INSECURE: {insecure!r} is neither true nor false")
    try:
        urls = tuple(addresses.base_url(url, names.PORT) for url in _list(variables, "OLLAMA_URL"))
    except ValueError as problem:
        raise ConfigError(f"OLLAMA_URL: {problem}") from None
    level = variables.get("PROXY_LOG_LEVEL", "").strip().upper() or default.log_level
    if level not in {"DEBUG", "INFO", "WARNING", "ERROR"}:
        raise ConfigError(f"PROXY_LOG_LEVEL: {level!r} is not one of DEBUG, INFO, WARNING, ERROR")
    origins = _list(variables, "PROXY_CORS_ORIGINS")
    if engine == OPENAI:
        # Clients of OpenAI are used to have it in the address.
        urls = tuple(url.removesuffix("/v1") for url in urls)
    return Environment(
        engine=engine,
        ollama_urls=urls or default.ollama_urls,
        chat_models=_list(variables, "OLLAMA_CHAT_MODELS"),
        embedding_models=_list(variables, "OLLAMA_EMBEDDING_MODELS"),
        pull_insecure=insecure == "true",
        keep_alive=keep_alive,
        cors_origins=origins if "PROXY_CORS_ORIGINS" in variables else default.cors_origins,
        allowed_hosts=_list(variables, "PROXY_ALLOWED_HOSTS"),
        log_level=level,
        api_keys_dir=variables.get("PROXY_API_KEYS_DIR", "").strip() or None,
    )


def _engine(variables: Mapping[str, str]) -> str:
    engine = variables.get("PROXY_ENGINE", "").strip().lower() or OLLAMA
    if engine not in {OLLAMA, OPENAI}:
        raise ConfigError(f"PROXY_ENGINE: {engine!r} is neither {OLLAMA} nor {OPENAI}")
    for name in ("OLLAMA_CHAT_MODELS", "OLLAMA_EMBEDDING_MODELS"):
        if engine == OPENAI and _list(variables, name):
            raise ConfigError(
                f"{name}: only Ollama can be told to pull models. Leave it out with PROXY_ENGINE={OPENAI}: "
                "all that the servers list is served"
            )
    return engine


def _list(variables: Mapping[str, str], name: str) -> tuple[str, ...]:
    return tuple(item.strip() for item in variables.get(name, "").split(",") if item.strip())
