"""The tokens that a request took."""

from modelset_proxy.openai import pieces


class Tokens:
    """Adds up the tokens of the choices of one request. Choices of one prompt count its tokens once."""

    def __init__(self) -> None:
        self.prompt = 0
        self.completion = 0

    def add(self, end: pieces.End, *, counts_prompt: bool) -> None:
        """Take in the end of one choice."""
        if counts_prompt:
            self.prompt += end.prompt_tokens
        self.completion += end.completion_tokens

    def usage(self) -> dict[str, int]:
        """Return OpenAI's usage object."""
        return {
            "prompt_tokens": self.prompt,
            "completion_tokens": self.completion,
            "total_tokens": self.prompt + self.completion,
        }
