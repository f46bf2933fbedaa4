"""ONNX graphs: one way to run them, whichever router or embedder they belong to.

`session` runs a graph, `text_graph` one that reads texts, in length buckets; `from_torch` and `pretrained` make graphs
of torch modules. onnxruntime is imported when a session is made, torch when a graph is.
"""

from __future__ import annotations

from routellm_fast.onnx.session import OnnxSession, SessionOptions

__all__ = ["OnnxSession", "SessionOptions"]
