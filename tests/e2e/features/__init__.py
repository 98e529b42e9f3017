"""What models can do beyond chat, through OpenAI's own client: a file a feature.

Nothing is recorded: real Ollama answers, and each test names the model. All are SmolLM2-135M, with other
templates or with eyes (stack/models.py). What they say is seldom wise; the tests want it in OpenAI's form.
"""
