"""What a causal language model reads: fixed text around the question, and how a question too long for it is cut."""

from __future__ import annotations

import string
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from typing import Any, Final, Literal

from routellm_fast.errors import InvalidArgumentError

Truncation = Literal["middle", "end"]
TRUNCATIONS: Final = ("middle", "end")

SCORE_TOKENS: Final = tuple(f"[[{score}]]" for score in range(1, 6))
# What a model fine-tuned here reads; a checkpoint that was fine-tuned elsewhere brings its own two texts. These do not
# spell the score tokens: where a model reads a token by the row that it writes it with, training changes what it reads.
DEFAULT_SYSTEM: Final = (
    "You rate how well a small language model would answer a question, compared with a large one. "
    "Reply with one score: 1 if the large model's answer would be far better, 4 if both would do equally well, "
    "5 if the small model's would be the better one."
)
DEFAULT_CLASSIFIER: Final = "Question:\n{question}\n\nScore:"

# A question that no text has, to find where a rendered template puts it.
_MARK: Final = "\ue0f1question\ue0f1"
_LLAMA3_TOKENS: Final = ("<|start_header_id|>", "<|end_header_id|>", "<|eot_id|>")


@dataclass(frozen=True, slots=True)
class PromptFormat:
    """Fixed text around a question. It is rendered once: no template runs when prompts are scored.

    Attributes:
        before: Text before the question.
        after: Text behind it.
        header: What the model writes of its own accord before the score, e.g. the head of the assistant's turn; it is
            appended so that one pass reaches the score. "" where `after` ends with it already.
        add_special_tokens: Whether the tokenizer adds its own, such as a begin-of-text, or the text has them.
        strip_left: Whether space at the start of a question is left out, as the format does where nothing stands
            before the question in its message.
        strip_right: Whether space at the end of a question is left out.
    """

    before: str
    after: str
    header: str
    add_special_tokens: bool
    strip_left: bool = False
    strip_right: bool = False

    def __post_init__(self) -> None:
        """Refuse parts of other types, as a directory may hold them."""
        texts = (self.before, self.after, self.header)
        flags = (self.add_special_tokens, self.strip_left, self.strip_right)
        if not all(isinstance(text, str) for text in texts) or not all(isinstance(flag, bool) for flag in flags):
            raise InvalidArgumentError(f"a prompt format is three texts and three flags, found {self}")

    @classmethod
    def routellm(cls, system: str, classifier: str) -> PromptFormat:
        """Return RouteLLM's format of Llama 3: system and user turn; the model writes the assistant's header itself.

        Args:
            system: The system message; none where it is blank.
            classifier: The user message, with `{question}` once. Braces are doubled, as in str.format.

        Raises:
            InvalidArgumentError: The classifier text has no place for the question, or others.

        Source: RouteLLM's PROMPT_FORMAT_CONFIGS and PromptFormat (routers/causal_llm).
        """
        head, tail = split_classifier(classifier)

        def turn(role: str) -> str:
            return f"<|start_header_id|>{role}<|end_header_id|>\n\n"

        system = system.strip()
        opening = f"{turn('system')}{system}<|eot_id|>" if system else ""
        return cls(
            before=opening + turn("user") + head.lstrip(),
            after=tail.rstrip() + "<|eot_id|>",
            header=turn("assistant"),
            add_special_tokens=True,
            strip_left=not head.strip(),
            strip_right=not tail.strip(),
        )

    @classmethod
    def chat(cls, system: str, classifier: str, render: Callable[..., str]) -> PromptFormat:
        """Return what a tokenizer's chat template makes of the two texts, generation prompt included.

        Args:
            system: The system message; none where it is blank. A template without system turns gets it at the start of
                the user message.
            classifier: The user message, with `{question}` once.
            render: `tokenizer.apply_chat_template`.

        Raises:
            InvalidArgumentError: The classifier text does not fit, or the template cannot be rendered.
        """
        head, tail = split_classifier(classifier)
        user = {"role": "user", "content": head + _MARK + tail}
        conversations: list[list[dict[str, str]]] = [[user]]
        if system.strip():
            folded = {"role": "user", "content": f"{system.strip()}\n\n{head}{_MARK}{tail}"}
            conversations = [[{"role": "system", "content": system.strip()}, user], [folded]]
        problem: Exception | None = None
        for conversation in conversations:
            try:
                text = render(conversation, tokenize=False, add_generation_prompt=True)
            except Exception as error:  # noqa: BLE001 - templates raise what they like
                problem = error
                continue
            # A template without system turns may also leave them out in silence.
            if text.count(_MARK) == 1 and system.strip() in text:
                before, _, after = text.partition(_MARK)
                blank = not (conversation[-1]["content"].partition(_MARK)[0].strip()), not tail.strip()
                return cls(before, after, "", add_special_tokens=False, strip_left=blank[0], strip_right=blank[1])
        raise InvalidArgumentError(
            "the tokenizer's chat template does not render a system and a user message with the question once"
            f"{f' ({problem})' if problem else ''}. Give a PromptFormat, or a tokenizer with another template."
        ) from problem

    def question(self, prompt: str, control_texts: Collection[str] = ()) -> str:
        """Return what stands for the question: without what would be read as a control token.

        A prompt that spells such a token could end its own turn, or write its own score. A space after the token's
        first character leaves the words and takes the power. RouteLLM reads such prompts as they are.
        """
        if self.strip_left:
            prompt = prompt.lstrip()
        if self.strip_right:
            prompt = prompt.rstrip()
        for text in control_texts:
            if text in prompt:
                prompt = prompt.replace(text, f"{text[0]} {text[1:]}")
        return prompt


def has_llama3_turns(vocabulary: Collection[str]) -> bool:
    """Say whether a vocabulary has the tokens that PromptFormat.routellm writes."""
    return all(token in vocabulary for token in _LLAMA3_TOKENS)


def split_classifier(classifier: str) -> tuple[str, str]:
    """Return the text before and behind `{question}`.

    Only that one plain field: RouteLLM applies str.format, by which a text could reach into objects.

    Raises:
        InvalidArgumentError: Another field, none, or more than one.
    """
    try:
        parts = list(string.Formatter().parse(classifier))
    except ValueError as error:
        raise InvalidArgumentError(
            f"the classifier text is no format string ({error}); a brace of its own is doubled"
        ) from error
    fields = [(name, spec, conversion) for _, name, spec, conversion in parts if name is not None]
    if fields != [("question", "", None)]:
        found = ", ".join(repr(name) for name, _, _ in fields) or "none"
        raise InvalidArgumentError(
            f"the classifier text must have the field {{question}} once and no other, found {found}"
        )
    index = next(index for index, part in enumerate(parts) if part[1] is not None)
    return "".join(part[0] for part in parts[: index + 1]), "".join(part[0] for part in parts[index + 1 :])


def fitted(
    ids: Sequence[int], offsets: Sequence[tuple[int, int]], question: tuple[int, int], room: int, policy: Truncation
) -> list[int]:
    """Cut a question's tokens so that `room` are left in all; everything around the question stays.

    Args:
        ids: Tokens of the whole text.
        offsets: Of each token, the characters that it covers.
        question: First character of the question, and the one behind it.
        room: Tokens at most.
        policy: "end" keeps the question's start; "middle" keeps as much of its start as of its end, one more of the
            start where they cannot be equal.

    Raises:
        InvalidArgumentError: The text around the question alone is longer.
    """
    excess = len(ids) - room
    if excess <= 0:
        return list(ids)
    # A token that reaches over a border belongs to the text around: it must stay. One that covers nothing, such as a
    # begin-of-text, has the offsets (0, 0).
    inside = [i for i, (start, end) in enumerate(offsets) if question[0] <= start < end <= question[1]]
    kept = len(inside) - excess
    if kept < 0:
        raise InvalidArgumentError(
            f"the text around the question alone has {len(ids) - len(inside)} tokens, room is for {room}"
        )
    first = kept if policy == "end" else (kept + 1) // 2
    dropped = set(inside[first : first + excess])
    return [token for i, token in enumerate(ids) if i not in dropped]


def check_truncation(policy: Any) -> None:
    """Raise InvalidArgumentError unless it is a truncation policy."""
    if policy not in TRUNCATIONS:
        raise InvalidArgumentError(f"truncation is one of {', '.join(TRUNCATIONS)}, found {policy!r}")
