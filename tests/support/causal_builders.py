"""Tiny causal language models with random weights, in the layout of RouteLLM's checkpoints."""

from __future__ import annotations

import itertools
import json
from pathlib import Path

import numpy as np

from routellm_fast.routers.causal.prompt import SCORE_TOKENS

SYSTEM = "Rate the question from [[1]] to [[5]]. "
CLASSIFIER = "[Question]\n{question}\n\nPrediction:"
SPECIAL = ("<|begin_of_text|>", "<|end_of_text|>", "<|start_header_id|>", "<|end_header_id|>", "<|eot_id|>")
HEADER = "<|start_header_id|>assistant<|end_header_id|>\n\n"


def tokenizer_json(*, score_tokens: bool = False) -> str:
    """A byte-level tokenizer of 256 bytes, a few merges and Llama 3's control tokens."""
    from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers, processors

    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    words = ["assistant", "\u010a\u010a"]
    merges, vocabulary = [], {letter: number for number, letter in enumerate(alphabet)}
    for word in words:
        for end in range(2, len(word) + 1):
            merges.append((word[: end - 1], word[end - 1]))
            vocabulary[word[:end]] = len(vocabulary)
    tokenizer = Tokenizer(models.BPE(vocab=vocabulary, merges=merges))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    names = [*SPECIAL, *(SCORE_TOKENS if score_tokens else ())]
    tokenizer.add_special_tokens([AddedToken(name, special=True, normalized=False) for name in names])
    begin = tokenizer.token_to_id(SPECIAL[0])
    tokenizer.post_processor = processors.TemplateProcessing(
        single=f"{SPECIAL[0]} $A", pair=f"{SPECIAL[0]} $A $B", special_tokens=[(SPECIAL[0], begin)]
    )
    return tokenizer.to_str()


def checkpoint(
    folder: Path,
    *,
    seed: int = 0,
    chat_template: str | None = None,
    writes_header: bool = False,
    scores: bool = True,
    texts: bool = True,
    score_tokens: bool = False,
    rows: int | None = None,
) -> Path:
    """Write a Llama of two layers with random weights.

    Args:
        folder: Where; made.
        seed: Of the weights.
        chat_template: Jinja.
        writes_header: Make its greedy decoding write the assistant's header after a turn ends.
        scores: Make a score token the likeliest after that header.
        texts: Write RouteLLM's two text files.
        score_tokens: Whether the tokenizer has the score tokens, or they are to be added.
        rows: Output rows; None: one a token and score token.
    """
    import torch
    from tokenizers import Tokenizer
    from transformers import LlamaConfig, LlamaForCausalLM

    text = tokenizer_json(score_tokens=score_tokens)
    tokenizer = Tokenizer.from_str(text)
    count = tokenizer.get_vocab_size() + (0 if score_tokens else len(SCORE_TOKENS))
    config = LlamaConfig(
        vocab_size=rows or count,
        hidden_size=32,
        intermediate_size=48,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=2,
        max_position_embeddings=512,
        rope_theta=500000.0,
        bos_token_id=tokenizer.token_to_id(SPECIAL[0]),
        eos_token_id=tokenizer.token_to_id(SPECIAL[1]),
        pad_token_id=None,
        tie_word_embeddings=False,
    )
    torch.manual_seed(seed)
    model = LlamaForCausalLM(config).eval()
    with torch.no_grad():
        for weight in model.parameters():
            if weight.dim() > 1:
                weight.normal_(0.0, 0.2)
        head, inputs = model.lm_head.weight, model.model.embed_tokens.weight
        # Each token's embedding is large beside what layers add, so that a row along it decides what follows the token.
        chain = [tokenizer.token_to_id("<|eot_id|>"), *tokenizer.encode(HEADER, add_special_tokens=False).ids]
        links = list(itertools.pairwise(chain)) if writes_header else []
        for number in range(len(chain)):
            inputs[chain[number]] = 0.0
            inputs[chain[number], number] = 12.0
        for token, follower in links:
            head[follower] += 0.6 * inputs[token]
        if scores:
            head[count - len(SCORE_TOKENS) : count] += 0.6 * inputs[chain[-1]]
    folder.mkdir(parents=True, exist_ok=True)
    model.save_pretrained(folder)
    (folder / "tokenizer.json").write_text(text, encoding="utf-8")
    settings = {"tokenizer_class": "PreTrainedTokenizerFast", "bos_token": SPECIAL[0], "eos_token": SPECIAL[1]}
    if chat_template is not None:
        settings["chat_template"] = chat_template
    (folder / "tokenizer_config.json").write_text(json.dumps(settings), encoding="utf-8")
    if texts:
        (folder / "system_ft_v5.txt").write_text(SYSTEM, encoding="utf-8")
        (folder / "classifier_ft_v5.txt").write_text(CLASSIFIER, encoding="utf-8")
    return folder


def generated_win_rate(folder: Path, prompt: str, *, max_new_tokens: int = 6, score_threshold: int = 4) -> float:
    """RouteLLM's scoring restated: greedy `generate` without a header, the softmax at the first score token."""
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer

    model = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32).eval()
    tokenizer = AutoTokenizer.from_pretrained(folder)
    tokenizer.add_tokens(list(SCORE_TOKENS), special_tokens=True)
    first = len(tokenizer) - len(SCORE_TOKENS)
    contents = (("system", SYSTEM.strip()), ("user", CLASSIFIER.format(question=prompt).strip()))
    text = "".join(f"<|start_header_id|>{role}<|end_header_id|>\n\n{content}<|eot_id|>" for role, content in contents)
    ids = torch.tensor([tokenizer.encode(text)])
    with torch.no_grad():
        out = model.generate(
            ids,
            attention_mask=torch.ones_like(ids),
            max_new_tokens=max_new_tokens,
            do_sample=False,
            pad_token_id=tokenizer.eos_token_id,
            output_scores=True,
            return_dict_in_generate=True,
        )
    written = out.sequences[0, ids.shape[1] :].tolist()
    step = next((index for index, token in enumerate(written) if token >= first), None)
    if step is None:
        return 1.0
    logits = out.scores[step][0, first:].double().numpy()
    odds = np.exp(logits - logits.max())
    return float(1.0 - (odds / odds.sum())[score_threshold - 1 :].sum())
