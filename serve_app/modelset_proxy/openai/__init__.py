"""OpenAI's requests and answers: decoded, checked and made, without a network. Pure."""
