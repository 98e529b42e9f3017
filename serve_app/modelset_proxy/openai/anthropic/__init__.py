"""Anthropic's Messages API: from its requests to chats, and from neutral pieces to its answers. Pure."""

from modelset_proxy.openai.anthropic.bodies import read
from modelset_proxy.openai.anthropic.chats import chat
from modelset_proxy.openai.anthropic.events import Stream
from modelset_proxy.openai.anthropic.messages import Message

__all__ = ["Message", "Stream", "chat", "read"]
