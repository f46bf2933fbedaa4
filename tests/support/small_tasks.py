"""Short requests whose answers a program can check, of several kinds and hard in different degrees.

`tasks()` are always the same, in the same order. `python -m tests.support.small_tasks FILE [ROUNDS]` writes them, as
JSON lines with `prompt`, `reference` and `source` (the kind).
"""

from __future__ import annotations

import functools
import json
import random
import re
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True, slots=True)
class Task:
    """A request and its right answer.

    Attributes:
        kind: Name of the kind of request.
        prompt: The request.
        reference: What a right answer holds: one word, one number, or several in their order.
        also: Other spellings of the reference.
        others: Wrong answers, which a right one does not name beside the right one.
    """

    kind: str
    prompt: str
    reference: str
    also: tuple[str, ...] = ()
    others: tuple[str, ...] = ()

    def is_right(self, answer: str) -> bool:
        """Whether an answer is right, whatever its capitals, its signs, and its words before and behind."""
        is_named = any(_holds(answer, wanted) for wanted in (self.reference, *self.also))
        return is_named and not any(_holds(answer, other) for other in self.others)


def _holds(answer: str, wanted: str) -> bool:
    return f" {_plain(wanted)} " in f" {_plain(answer)} "


def _plain(text: str) -> str:
    """Small letters and digits, a space between words; without "and" and the commas of large numbers."""
    words = re.findall(r"\w+", re.sub(r"(?<=\d),(?=\d{3}\b)", "", text.casefold()))
    return " ".join(word for word in words if word != "and")


_CAPITALS = """
France Paris; Germany Berlin; Italy Rome; Spain Madrid; Japan Tokyo; Russia Moscow; Egypt Cairo; Greece Athens;
Portugal Lisbon; Austria Vienna; Poland Warsaw; Sweden Stockholm; Norway Oslo; Ireland Dublin; Hungary Budapest;
Cuba Havana; Peru Lima; Kenya Nairobi; Thailand Bangkok; Iraq Baghdad; Nepal Kathmandu; Ghana Accra; Malawi Lilongwe"""
_CAPITAL_PHRASES = (
    "What is the capital of {0}?",
    "I am planning a trip to {0}. Which city is its capital?",
    "For a quiz at school: the capital city of {0} is called what?",
    "My aunt moved to the capital of {0} last spring. Which city does she live in now?",
)

_OPPOSITES = """
hot cold; big small; up down; day night; open closed; fast slow; early late; left right; happy sad; rich poor;
full empty; strong weak; wet dry; hard soft; near far; tall short; first last; old young; heavy light; inside outside;
true false; always never; buy sell; win lose"""
_OPPOSITE_PHRASES = (
    "What is the opposite of the word {0}?",
    "Which word means the reverse of {0}?",
    "My homework asks for the antonym of {0}.",
)

_FACTS = (
    ("How many legs does a dog have?", "four", "4"),
    ("Which color do you get when you mix blue and yellow?", "green"),
    ("What do bees make?", "honey"),
    ("Which season comes after winter?", "spring"),
    ("Which day of the week comes after Monday?", "Tuesday"),
    ("At what temperature, in degrees Celsius, does water freeze?", "0", "zero"),
    ("What is the name of the planet that we live on?", "Earth"),
    ("Which gas do people need to breathe?", "oxygen"),
    ("How many days are in a week?", "seven", "7"),
    ("Which animal says meow?", "cat"),
    ("What is the largest ocean on Earth?", "Pacific"),
    ("Who wrote Romeo and Juliet?", "Shakespeare"),
    ("Which language do most people in Brazil speak?", "Portuguese"),
    ("What is frozen water called?", "ice"),
    ("How many months are in a year?", "12", "twelve"),
    ("On which continent is Egypt?", "Africa"),
    ("What do you call a baby dog?", "puppy"),
    ("Which metal has the symbol Fe?", "iron"),
    ("Which star is closest to the Earth?", "sun"),
    ("What is the chemical formula of water?", "H2O"),
    ("Which month comes before April?", "March"),
    ("How many sides does a triangle have?", "three", "3"),
    ("Which organ pumps blood through the body?", "heart"),
    ("In which country is the city of Osaka?", "Japan"),
    ("Who painted the Mona Lisa?", "Leonardo"),
    ("What is the currency of Japan?", "yen"),
)

_PLURALS = """
child children; mouse mice; foot feet; tooth teeth; man men; box boxes; city cities; leaf leaves; cat cats;
book books"""

_LISTS = (
    (
        "Write the days of the week in order, beginning with Monday.",
        "Monday Tuesday Wednesday Thursday Friday Saturday",
    ),
    ("Name the first six months of the year.", "January February March April May June"),
    ("List the four seasons, from spring on.", "spring summer autumn winter", "spring summer fall winter"),
    ("Say the first eight letters of the alphabet.", "A B C D E F G H"),
    ("Which planets come first, counted from the sun? Name four.", "Mercury Venus Earth Mars"),
    ("Write the even numbers up to 14.", "2 4 6 8 10 12 14"),
    ("What are the first five letters of the alphabet?", "A B C D E"),
    ("Which days make up the weekend?", "Saturday Sunday"),
)

_SENTENCES = (
    "The ship left the harbour at noon.",
    "My sister plays the violin in a small orchestra.",
    "Please close the window before you go.",
    "The train to the coast was late again today.",
    "A red kite flew high above the green hills.",
    "We painted the kitchen yellow last summer.",
    "The baker opens his shop at six in the morning.",
    "Nobody remembered where the old key was.",
    "Two cats slept on the warm stone wall.",
    "The lesson about rivers begins after lunch.",
    "He bought three tickets for the evening show.",
    "Snow covered the road and the fields.",
    "Our neighbour grows tomatoes and beans.",
    "The library is closed on Sundays.",
    "She wrote a long letter to her uncle.",
    "The bridge was built a hundred years ago.",
)
_REPEAT_PHRASES = (
    "Repeat this sentence exactly: {0}",
    "Copy the following line and change nothing.\n\n{0}",
    'Write "{0}" once more.',
    "Say after me: {0}",
)

_PLURAL_PHRASES = (
    "What is the plural of {0}?",
    "One {0}, two of what?",
    "My English homework asks for the plural form of the noun {0}.",
)
_REVIEWS = (
    ("The soup was cold and the waiter was rude to us.", "negative"),
    ("I loved every minute of this film, and so did my parents.", "positive"),
    ("The battery died after two days and nobody answered my calls.", "negative"),
    ("A wonderful hotel with friendly people and a great breakfast.", "positive"),
    ("These shoes fell apart on the first walk. What a waste of money.", "negative"),
    ("The best concert of the year; I would go again tomorrow.", "positive"),
    ("My new bicycle rides beautifully and arrived a day early.", "positive"),
    ("The book is dull, far too long and badly translated.", "negative"),
    ("Not a single thing about this flight was pleasant.", "negative"),
    ("I expected little, and was delighted by how well it works.", "positive"),
    ("The paint peeled within a week. I want my money back.", "negative"),
    ("Fresh bread, fair prices and a smile at the counter.", "positive"),
    ("I cannot say that anything about this phone disappointed me.", "positive"),
    ("They promised a sea view, and we looked at a wall.", "negative"),
    ("Our guide knew every stone of the city and made us laugh.", "positive"),
    ("The game crashes whenever I save. Avoid it.", "negative"),
    ("It could hardly have been a worse evening.", "negative"),
    ("The doctor took her time and explained everything kindly.", "positive"),
    ("Nothing was wrong with the room; we shall come back.", "positive"),
    ("The lamp flickers, hums and smells of burnt plastic.", "negative"),
    ("An excellent teacher, patient and clear.", "positive"),
    ("Half of the seats were broken and the rest were dirty.", "negative"),
    ("I have rarely been so glad about a purchase.", "positive"),
    ("We waited two hours for a pizza that was burnt.", "negative"),
)
_REVIEW_PHRASES = (
    "{0}\nIs this review positive or negative? Answer with one word.",
    "Tag the feedback below as positive or negative.\n\n{0}",
    'A customer wrote: "{0}" Is that positive or negative?',
)

_NAMES = "Anna Ben Clara David Emma Felix Grace Henry Ida Jonas Karen Leo Maria Noah Olga Peter Rosa Simon Tina Victor"
_PLACES = "Bremen Lyon Porto Gdansk Turku Bergen Leeds Bath Seville Verona Graz Basel Utrecht Ghent Malmo Split"
_THINGS = "apples pencils stamps coins marbles postcards eggs buttons tickets books candles oranges cups keys shells"

_SUM_PHRASES = (
    "What is {0} + {1}?",
    "{2} has {0} {3} and gets {1} more. How many {3} does {2} have now?",
    "Please add {0} and {1} for me.",
    "A shelf in {4} holds {0} {3}, another one {1}. Work out the total number of {3}.",
    "I paid {0} dollars for a coat and {1} dollars for a hat. How many dollars did I pay in all?",
)
_ORDER_PHRASES = (
    "Which number is larger, {0} or {1}?",
    "{2} collected {0} {3}, and a friend collected {1}. Write the larger of the two numbers.",
    "Two towns near {4} have {0} and {1} people. How many people live in the bigger town?",
    "Of the prices {0} dollars and {1} dollars, which one is higher? Give the number.",
)
_COUNT_PHRASES = (
    "Count from {0} to {1}.",
    "Write the numbers from {0} to {1}.",
    "{2} wants to see all whole numbers from {0} to {1}.",
)
_NEXT_PHRASES = (
    "Continue the sequence: {0},",
    "Which number comes next? {0}",
    "{1} writes these numbers on the board: {0}. What is the next one?",
    "The bus stops after these minutes: {0}. If it goes on like that, after how many minutes is the next stop?",
)
_PHONE_PHRASES = (
    "Hello, {0} here, from {1}. It is about the {2}; call {3} before noon.\nWrite down this phone number.",
    "Find the telephone number.\n\nInvoice for {2}, to {0} in {1}, room 12, phone {3}, due in 30 days.",
    'Note: "{0} wants the {2} back by Friday the 9th. {1} office: {3}." Copy the phone number, nothing else.',
    "Extract the phone number, digits only: {2} for {0}, {1}, tel. {3}, 4 boxes.",
)
_FIELD_PHRASES = (
    "{0} is {1} years old and lives in {2}. Write this as a JSON object with the keys name, age and city.",
    "Turn the line into JSON (keys: name, age, city; age is a number).\n{0}, {1}, {2}",
    "New member: {0}, from {2}, aged {1}. Answer with one JSON object that has name, age and city.",
)


MOST_ROUNDS = 10


def tasks(rounds: int = 1) -> tuple[Task, ...]:
    """All tasks, the kinds mixed; each further round adds tasks of the kinds that are made of numbers and names."""
    found = [
        *(Task("capital", prompt, right) for prompt, right in _of_pairs(_CAPITALS, _CAPITAL_PHRASES)),
        *(Task("opposite", prompt, right) for prompt, right in _of_pairs(_OPPOSITES, _OPPOSITE_PHRASES)),
        *(Task("plural", prompt, right) for prompt, right in _of_pairs(_PLURALS, _PLURAL_PHRASES)),
        *(Task("fact", prompt, right, tuple(also)) for prompt, right, *also in _FACTS),
        *(Task("list", prompt, right, tuple(also)) for prompt, right, *also in _LISTS),
        *(Task("repeat", _nth(_REPEAT_PHRASES, at).format(text), text) for at, text in enumerate(_SENTENCES)),
        *_of_reviews(),
    ]
    for number in range(rounds):
        rng = random.Random(number)
        found += [*_sums(rng), *_orders(rng), *_counts(rng), *_sequences(rng), *_phones(rng), *_fields(rng)]
    distinct = list({task.prompt: task for task in found}.values())
    random.Random(0).shuffle(distinct)
    return tuple(distinct)


def is_right(prompt: str, answer: str) -> bool:
    """Whether an answer to the prompt of a task, of any round, is right."""
    return _by_prompt()[prompt].is_right(answer)


@functools.cache
def _by_prompt() -> dict[str, Task]:
    return {task.prompt: task for task in tasks(MOST_ROUNDS)}


def write_prompts(path: Path, some: Sequence[Task]) -> None:
    """Write tasks as JSON lines."""
    rows = ({"prompt": task.prompt, "reference": task.reference, "source": task.kind} for task in some)
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")


def _nth(phrases: Sequence[str], index: int) -> str:
    return phrases[index % len(phrases)]


def _of_pairs(pairs: str, phrases: Sequence[str]) -> list[tuple[str, str]]:
    """Each first word in a phrase, and the word that belongs to it."""
    both = [pair.split() for pair in pairs.split(";")]
    return [(_nth(phrases, index).format(asked), right) for index, (asked, right) in enumerate(both)]


def _of_reviews() -> list[Task]:
    return [
        Task(
            "review",
            _nth(_REVIEW_PHRASES, index).format(text),
            right,
            others=("negative" if right == "positive" else "positive",),
        )
        for index, (text, right) in enumerate(_REVIEWS)
    ]


def _drawn(rng: random.Random, names: str) -> str:
    return rng.choice(names.split())


def _words(rng: random.Random) -> tuple[str, str, str]:
    return _drawn(rng, _NAMES), _drawn(rng, _THINGS), _drawn(rng, _PLACES)


def _sums(rng: random.Random) -> list[Task]:
    found = []
    for index in range(24):
        most = (5, 9, 20, 99)[index // 6]
        a, b = rng.randint(2, most), rng.randint(2, most)
        found.append(Task("sum", _nth(_SUM_PHRASES, index).format(a, b, *_words(rng)), str(a + b)))
    return found


def _orders(rng: random.Random) -> list[Task]:
    found = []
    for index in range(12):
        low = rng.randint(10, 10 ** (2 + index % 3))
        high = low + rng.randint(1, max(2, low // 2))
        pair = (low, high) if rng.random() < 0.5 else (high, low)
        prompt = _nth(_ORDER_PHRASES, index).format(*pair, *_words(rng))
        found.append(Task("order", prompt, str(high), others=(str(low),)))
    return found


def _counts(rng: random.Random) -> list[Task]:
    found = []
    for index in range(18):
        first = rng.randint(1, 40)
        numbers = range(first, first + rng.randint(4, 12))
        prompt = _nth(_COUNT_PHRASES, index).format(first, numbers[-1], _drawn(rng, _NAMES))
        found.append(Task("count", prompt, " ".join(map(str, numbers))))
    return found


def _sequences(rng: random.Random) -> list[Task]:
    found = []
    for index in range(10):
        first, step = rng.randint(1, 9), (1, 2, 5, 10, rng.randint(3, 9))[index % 5]
        shown = ", ".join(str(first + step * place) for place in range(5))
        prompt = _nth(_NEXT_PHRASES, index).format(shown, _drawn(rng, _NAMES))
        found.append(Task("sequence", prompt, str(first + 5 * step)))
    return found


def _phones(rng: random.Random) -> list[Task]:
    found = []
    for index in range(20):
        phone = "555" + "".join(str(rng.randint(0, 9)) for _ in range(1 + index % 4))
        name, thing, place = _words(rng)
        found.append(Task("phone", _nth(_PHONE_PHRASES, index).format(name, place, thing, phone), phone))
    return found


def _fields(rng: random.Random) -> list[Task]:
    found = []
    for index in range(20):
        name, age, city = _drawn(rng, _NAMES), rng.randint(18, 90), _drawn(rng, _PLACES)
        right = json.dumps({"name": name, "age": age, "city": city})
        found.append(Task("fields", _nth(_FIELD_PHRASES, index).format(name, age, city), right))
    return found


if __name__ == "__main__":
    write_prompts(Path(sys.argv[1]), tasks(*map(int, sys.argv[2:])))
