"""Prompts to verify an export on where the user gives none."""

from __future__ import annotations

from typing import Final

PROBES: Final = (
    "",
    "hi",
    "What is the capital of Australia?",
    "Prove that there are infinitely many primes.",
    "Write a haiku about autumn rain.",
    "def f(n):\n    return n if n < 2 else f(n - 1) + f(n - 2)\n\nWhy is this slow, and how would you make it fast?",
    "Traduis en français : The early bird catches the worm.",
    "Wie erkläre ich einem Kind, warum der Himmel blau ist?",
    "請用三句話解釋量子糾纏。",
    "Объясни разницу между TCP и UDP.",
    "SELECT name, SUM(total) FROM orders GROUP BY name HAVING SUM(total) > 100; -- which index helps?",
    "Solve for x: 3x^2 - 12x + 9 = 0",
    "Summarise the causes of the First World War in about 200 words, with three sources.",
    "A train leaves at 14:05 and travels 240 km at 80 km/h, then waits 12 minutes. When is it there, 60 km on?",
    "I feel tired all the time. What could be the reason?",
    "Which of these is a mammal?\nA. Shark\nB. Dolphin\nC. Penguin\nD. Trout\nAnswer:",
    "Plan a three-day trip to Kyoto for two people who like gardens and dislike crowds.",
    "😀😀😀 what do these mean???",
    "Refactor this class so that it can be tested without a database, and explain each step you take.",
    "The quick brown fox jumps over the lazy dog. " * 200,
)
