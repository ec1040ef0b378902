"""The options of the generator ``litellm``; imports nothing heavy."""

from __future__ import annotations

from rerank_listwise.generators.options import ChatOptions


class LiteLlmOptions(ChatOptions):
    """The options of a chat endpoint, as the generator ``litellm`` reads them. Retries, limits and the cache are ours.

    The connection is litellm's own: ``proxy``, ``ca_file`` and ``connect_timeout`` are errors that say what to set instead.

    Args:
        provider: ``litellm`` chooses this generator. With ``generator="litellm"``, any other name is litellm's for the provider,
            which may also stand before the model's name (``groq/llama-3.1-8b-instant``).
        api_key: By default, litellm reads the provider's environment variables.
        base_url: The server's address, where it is not the provider's own: litellm's ``api_base``.
        headers: litellm's ``extra_headers``.
        extra_body: Merged into every call's arguments: those of litellm, such as ``api_version``, keep their meaning, and it
            sends all others to the provider.
    """
