"""Forms that the servers' own routes answer: only the model's name is changed. Pure.

What is passed on is made anew from what was read here, never the client's bytes: two readers may see two
things in them.
"""

import msgspec

from modelset_proxy.openai import errors, forms

# By ``response_format`` of a transcription; all others are JSON.
_ANSWERS = {"text": b"text/plain; charset=utf-8", "srt": b"text/plain; charset=utf-8", "vtt": b"text/vtt"}


class Passed(msgspec.Struct, frozen=True):
    """A form whose model was found; ``answer`` is the content type of what comes back."""

    model: str
    form: forms.Form
    answer: bytes

    def rename(self, native: str) -> tuple[bytes, bytes]:
        """Return the content type and the body with the upstream's name of the model."""
        return self.form.encode(model=native)


def form_request(content_type: bytes, body: bytes) -> Passed:
    """Read the model of a multipart form; raises a 400."""
    form = forms.form(content_type, body)
    model = form.text("model")
    if model is None:
        raise errors.invalid(
            "Missing required parameter: 'model'.", param="model", code="missing_required_parameter"
        )
    if (form.text("stream") or "false").lower() != "false":
        raise errors.unsupported("stream", "Transcriptions come whole here.")
    return Passed(model, form, _ANSWERS.get(form.text("response_format") or "", b"application/json"))
