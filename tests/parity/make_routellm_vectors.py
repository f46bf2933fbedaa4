"""Record what RouteLLM's own MFModel says, for tests/parity/test_mf_parity.py.

Run in an environment of its own (routellm 0.2.0 pins much and needs an OpenAI key to import, any text will do):

    pip install torch==2.13.0 routellm==0.2.0
    OPENAI_API_KEY=unused LITELLM_LOCAL_MODEL_COST_MAP=True python tests/parity/make_routellm_vectors.py

The model's real forward() runs; only the embedding service behind it is replaced by vectors of ours.
"""

from __future__ import annotations

import json
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import torch
from routellm.routers.matrix_factorization import model as routellm_mf
from safetensors.numpy import save_file

HERE = Path(__file__).parent
PAIRS = [
    ("gpt-4-1106-preview", "mixtral-8x7b-instruct-v0.1"),
    ("claude-2.1", "dolly-v2-12b"),
    ("RWKV-4-Raven-14B", "zephyr-7b-beta"),
]


def wave(count: int, *shape: int) -> np.ndarray:
    """Numbers that need no file: a fixed quasi-random wave."""
    return np.sin(np.arange(1, 1 + int(np.prod(shape))) * (0.7548776662 + count)).astype(np.float32).reshape(shape)


def build(dim: int, text_dim: int) -> torch.nn.Module:
    model = routellm_mf.MFModel(dim=dim, num_models=64, text_dim=text_dim, num_classes=1, use_proj=True)
    with torch.no_grad():
        model.P.weight.copy_(torch.from_numpy(wave(1, 64, dim)))
        model.text_proj[0].weight.copy_(torch.from_numpy(wave(2, dim, text_dim) * 0.2))
        model.classifier[0].weight.copy_(torch.from_numpy(wave(3, 1, dim)))
    return model.eval()


def win_rates(model: torch.nn.Module, embeddings: np.ndarray) -> dict[str, list[float]]:
    found: dict[str, list[float]] = {}
    for strong, weak in PAIRS:
        ids = routellm_mf.MODEL_IDS[strong], routellm_mf.MODEL_IDS[weak]
        rates = []
        for row in embeddings:
            answer = SimpleNamespace(data=[SimpleNamespace(embedding=row.tolist())])
            create = SimpleNamespace(create=lambda answer=answer, **_: answer)
            routellm_mf.OPENAI_CLIENT = SimpleNamespace(embeddings=create)
            rates.append(float(model.pred_win_rate(*ids, "prompt")))
        found[f"{strong}|{weak}"] = rates
    return found


def main() -> None:
    small = build(16, 96)
    folder = HERE / "routellm_checkpoint"
    small.save_pretrained(folder)
    # The training script's own state dict: bare module names, and the prompts' embeddings along.
    state = {key: value.numpy() for key, value in small.state_dict().items()}
    training = {"P.weight": state["P.weight"], "Q.weight": wave(4, 5, 96), "text_proj.weight":
    state["text_proj.0.weight"],
                "classifier.weight": state["classifier.0.weight"]}  # fmt: skip
    (HERE / "routellm_training_state").mkdir(exist_ok=True)
    save_file(training, HERE / "routellm_training_state" / "model.safetensors")
    record = {
        "routellm": "0.2.0",
        "torch": torch.__version__,
        "pairs": PAIRS,
        "small": win_rates(small, wave(5, 40, 96)),
        "full": win_rates(build(128, 1536), wave(6, 40, 1536)),
    }
    (HERE / "routellm_vectors.json").write_text(json.dumps(record, indent=1) + "\n")


if __name__ == "__main__":
    main()
