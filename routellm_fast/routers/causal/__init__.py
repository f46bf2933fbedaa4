"""RouteLLM's `causal_llm`: a language model that grades a prompt, and the win rate that its grades mean.

From the bottom up: `prompt` is the text around a question, `tokens` makes token ids of both, `folder` knows the files
of a model, `model` runs one pass over token ids, `loading` makes a model of files, `scorer` turns a pass into a win
rate, `graph` is that pass as ONNX, and `router` puts them together.
"""
