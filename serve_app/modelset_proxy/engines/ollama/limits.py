"""What Ollama cannot do and would leave out in silence: refused, before anybody waits. Pure."""

import math

from modelset_proxy.openai import errors, requests

# The longest token of the tokenizers in use: a run of 128 spaces, which Llama 3's, Qwen's and gpt-oss's have.
_BYTES_A_TOKEN = 128
# Models that see get at least as many, whatever is asked for (Ollama: server/sched.go).
_LEAST_CONTEXT = 2048
# No model takes more. It is the bound where nobody knows yet what a model was loaded with.
_MOST_CONTEXT = 1024 * 1024
_SLICE = 64 * 1024


def check_sampling(request: requests.Sampling) -> None:
    """Refuse what Ollama's sampler does not know."""
    if request.logit_bias and any(request.logit_bias.values()):
        raise errors.unsupported("logit_bias", "Ollama cannot bias single tokens.")


def check_completion(request: requests.CompletionRequest) -> None:
    """Refuse what ``/api/generate`` does not know."""
    check_sampling(request)
    if request.best_of is not None and request.best_of > request.choices:
        raise errors.unsupported("best_of", "Candidates are not ranked here; use n and choose yourself.")
    if request.max_tokens == 0:
        raise errors.invalid(
            "Invalid value for 'max_tokens': Ollama answers with at least 1 token.",
            param="max_tokens",
            code="unsupported_value",
        )
    if request.echo and request.logprobs:
        raise errors.unsupported("logprobs", "There are no log probabilities of the prompt; leave out echo.")


def words(param: str, given: list[str | list[int]]) -> list[str]:
    """Return texts that are words, all of them; ``param`` is where they came from."""
    texts = [text for text in given if isinstance(text, str)]
    if len(texts) < len(given):
        raise errors.invalid(
            f"'{param}' holds token ids. They belong to OpenAI's tokenizer and mean nothing to this model: "
            "send text (LangChain: check_embedding_ctx_length=False).",
            param=param,
            code="unsupported_value",
        )
    return texts


def check_fit(param: str, context: int | None, *, messages: int = 0, size: int = 0) -> None:
    """Refuse what cannot fit a context of so many tokens: so many messages, or bytes of text.

    Ollama finds out by rendering and tokenizing all of it, which may take minutes, and nobody else's chat
    goes on meanwhile.
    """
    most = max(context or _MOST_CONTEXT, _LEAST_CONTEXT)
    least = max(messages, math.ceil(size / _BYTES_A_TOKEN))
    if least > most:
        raise errors.context_length_exceeded(param, most=most, least=least)


def check_texts(param: str, context: int | None, texts: list[str]) -> None:
    """Refuse a text that cannot fit by itself."""
    for text in texts:
        check_fit(param, context, size=size(text))


def size(text: str) -> int:
    """Return how many bytes a text has, without a copy of all of it."""
    if text.isascii():
        return len(text)
    starts = range(0, len(text), _SLICE)
    return sum(len(text[start : start + _SLICE].encode("utf-8", "surrogatepass")) for start in starts)
