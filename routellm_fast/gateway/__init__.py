"""An OpenAI- and Anthropic-compatible HTTP server that routes each request to one of several models.

The command line starts it: `routellm-fast serve`. Needs the extra `serve`.
"""
