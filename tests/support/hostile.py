"""Text that would do something to a terminal, to rich's markup, to Markdown or to HTML where it is printed as it is."""

from __future__ import annotations

# Begins with a letter, so that its place is a name everywhere. No slash: file names hold it too.
HOSTILE = (
    "evil\x1b[31m\x1b]8;;http:x\x07\x9b2J[bold][link=http:x]:smile:[red]`|<script>alert(1)<script>*_b_]("
    "\r\x08\x0b\x7f\x85\u200b\u200f\u202e\u2066\u2028\u2029\ufeff\nforged: line $\\frac{1}$ {0} %s"
)
# rich takes a closing tag that closes nothing for an error.
HOSTILE_WITH_SLASH = f"{HOSTILE}[/foo]</title></svg>"


def unsafe_characters(text: str) -> set[str]:
    """Return the characters that act on a terminal or cannot be seen there, but for line breaks."""
    return {character for character in text if not character.isprintable() and character != "\n"}
