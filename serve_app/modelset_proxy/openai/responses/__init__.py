"""OpenAI's Responses: requests made into chats, and what comes of these made into responses. Pure."""

from modelset_proxy.openai.responses.answers import whole
from modelset_proxy.openai.responses.events import Stream
from modelset_proxy.openai.responses.items import Output
from modelset_proxy.openai.responses.requests import Request, read

__all__ = ["Output", "Request", "Stream", "read", "whole"]
