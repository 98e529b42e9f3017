"""Ask a model set with OpenAI's client: python client.py [BASE_URL]."""

import sys

from openai import OpenAI

base_url = sys.argv[1] if len(sys.argv) > 1 else "http://localhost:8000/v1"
client = OpenAI(base_url=base_url, api_key="unused")

print("models:   ", ", ".join(model.id for model in client.models.list()))

chat = client.chat.completions.create(
    model="smollm2",
    messages=[{"role": "user", "content": "What is the capital of France?"}],
    max_completion_tokens=40,
    temperature=0,
    seed=1,
)
print("smollm2:  ", chat.choices[0].message.content)

embedding = client.embeddings.create(model="all-minilm", input="A sentence to compare with others.")
print("all-minilm:", len(embedding.data[0].embedding), "dimensions")
