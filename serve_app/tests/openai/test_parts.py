"""Replies of many choices are made in parts."""

import json

from modelset_proxy.openai import completions, pieces, requests


def test_a_completion_of_many_choices_is_made_in_parts_and_counted_whole() -> None:
    body = json.dumps({"model": "m", "prompt": ["a"] * 1000, "n": 2, "echo": True}).encode()
    choices = []
    for _ in range(2000):
        choice = completions.Choice()
        choice.add([pieces.Piece(" b" * 50, end=pieces.End("stop", 3, 2))])
        choices.append(choice)
    made, tokens = completions.completion(requests.completion(body), choices)
    parts = list(made)
    assert len(parts) > 2
    assert max(map(len, parts)) < 150_000
    reply = json.loads(b"".join(parts))
    assert [choice["index"] for choice in reply["choices"]] == list(range(2000))
    assert reply["choices"][-1]["text"] == "a" + " b" * 50
    assert (tokens.prompt, tokens.completion) == (3000, 4000)
    assert reply["usage"] == {"prompt_tokens": 3000, "completion_tokens": 4000, "total_tokens": 7000}
