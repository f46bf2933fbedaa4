"""The paper, for those who can reach the Hugging Face hub: RouteLLM's routers from its own public data, and its tables.

`python -m recipes.paper --help` and docs/paper.md say what is done, what it costs and how to read what comes out.
"""
