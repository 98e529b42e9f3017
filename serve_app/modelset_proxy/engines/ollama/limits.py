"""What Ollama cannot do and would leave out in silence: refused, before anybody waits. Pure."""

from modelset_proxy.openai import errors, requests


def check_sampling(request: requests.Sampling) -> None:
    """Refuse what Ollama's sampler does not know."""
    if request.logit_bias and any(request.logit_bias.values()):
        raise errors.unsupported("logit_bias", "Ollama cannot bias single tokens.")


def check_completion(request: requests.CompletionRequest) -> None:
    """Refuse what ``/api/generate`` does not know."""
    check_sampling(request)
    if request.best_of is not None and request.best_of > request.choices:
        raise errors.unsupported("best_of", "Candidates are not ranked here; use n and choose yourself.")
    if request.echo and request.logprobs is not None:
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
