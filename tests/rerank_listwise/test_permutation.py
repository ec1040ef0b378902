"""The parser is total: any text gives a permutation, however a model breaks the form, and says what was wrong."""

from __future__ import annotations

import os
import random
import time
from collections.abc import Callable

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from rerank_listwise.permutation import (
    LETTERS,
    Permutation,
    final_answer,
    in_plain_digits,
    open_thought,
    parse_choice,
    parse_permutation,
)

# an answer about three passages, the order read from it (from 0), and its faults
ORDERS: list[tuple[str, tuple[int, ...], dict[str, int]]] = [
    # as it should be, and in other clothes
    ("[2] > [3] > [1]", (1, 2, 0), {}),
    ("  [2]>[3]>[1]\n", (1, 2, 0), {}),
    ("[2] > [3] >\n[1]", (1, 2, 0), {}),
    ("[2], [3], [1]", (1, 2, 0), {}),
    ("[2][3][1]", (1, 2, 0), {}),
    ("[2 > 3 > 1]", (1, 2, 0), {}),
    ("[2, 3, 1]", (1, 2, 0), {}),
    ("2 > 3 > 1", (1, 2, 0), {}),
    ("2, 3, 1", (1, 2, 0), {}),
    ("2 3 1", (1, 2, 0), {}),
    ("2\n3\n1", (1, 2, 0), {}),
    ("2-3-1", (1, 2, 0), {}),
    ("**[2]** > **[3]** > **[1]**.", (1, 2, 0), {}),
    ("`[2] > [3] > [1]`", (1, 2, 0), {}),
    ('["2", "3", "1"]', (1, 2, 0), {}),
    ('["[2]", "[3]", "[1]"]', (1, 2, 0), {}),
    ("(2) > (3) > (1)", (1, 2, 0), {}),
    ("#2 > #3 > #1", (1, 2, 0), {}),
    ("*2* > \"3\" > '1'", (1, 2, 0), {}),
    ("[02] > [03] > [01]", (1, 2, 0), {}),
    ("【2】＞【3】＞【1】", (1, 2, 0), {}),
    ("［２］＞［３］＞［１］", (1, 2, 0), {}),
    ("[2] → [3] → [1]", (1, 2, 0), {}),
    ("[2] ≻ [3] ≻ [1]", (1, 2, 0), {}),
    ("Document 2, Document 3, Document 1", (1, 2, 0), {}),
    ("Document 2, ..., Document 1", (1, 0, 2), {"missing": 1}),
    ("documents 2, 3 and 1", (1, 2, 0), {"chatter": 1}),
    ("Passage 2 > Passage 3 > Passage 1", (1, 2, 0), {}),
    ("Passage [2] > Passage [3] > Passage [1]", (1, 2, 0), {}),
    ("[PASSAGE2, PASSAGE3, PASSAGE1]", (1, 2, 0), {}),
    ("[Document 2] > [doc 3] > [passage_1]", (1, 2, 0), {}),
    ("D2 > D3 > D1", (1, 2, 0), {"chatter": 1}),
    ("[rankstart] [2] > [3] > [1] [rankend]", (1, 2, 0), {}),
    ("[1] is best. [RANKSTART] [2] > [3] > [1] [RANKEND] [1]", (1, 2, 0), {}),
    ("[rankstart] [2] > [3] > [1]", (1, 2, 0), {}),
    # digits of other kinds
    ("[²] > [³] > [¹]", (1, 2, 0), {}),
    ("[₂] > [₃] > [₁]", (1, 2, 0), {}),
    ("② > ③ > ①", (1, 2, 0), {}),
    ("②③①", (1, 2, 0), {}),
    ("❷❸❶", (1, 2, 0), {}),
    ("⑵ ⒊ 🄂", (1, 2, 0), {}),
    ("[٢] > [٣] > [١]", (1, 2, 0), {}),
    ("[२] > [३] > [१]", (1, 2, 0), {}),
    ("[𝟐] > [𝟛] > [𝟷]", (1, 2, 0), {}),
    ("[½] > [二] > [2]", (1, 0, 2), {"missing": 2, "chatter": 1}),
    # broken brackets
    ("2] > [3] > [1]", (1, 2, 0), {}),
    ("[2] > [3] > [1", (1, 2, 0), {}),
    ("2 > [3] > [1]", (1, 2, 0), {}),
    ("[2] > 3 > [1]", (1, 2, 0), {}),
    ("[2 > [3 > [1", (1, 2, 0), {}),
    ("[[2]] > [[3]] > [[1]]", (1, 2, 0), {}),
    ("]2[ > ]3[ > ]1[", (1, 2, 0), {}),
    # duplicates, missing, unknown
    ("[2] > [2] > [3] > [1] > [2]", (1, 2, 0), {"duplicates": 2}),
    ("[3]", (2, 0, 1), {"missing": 2}),
    ("[3] > [4] > [1]", (2, 0, 1), {"unknown": 1, "missing": 1}),
    ("[0] > [3] > [1] > [2]", (2, 0, 1), {"unknown": 1}),
    ("[3] > [1] > [2] > [4] > [5] > [6]", (2, 0, 1), {"unknown": 3}),
    ("[3] > [99999999999999999999999999] > [1] > [2]", (2, 0, 1), {"unknown": 1}),
    ("[1] > [2] > ... > [3]", (0, 1, 2), {}),
    ("[3] > ... > [1]", (2, 0, 1), {"missing": 1}),
    ("[3-1]", (2, 0, 1), {"missing": 1}),
    # chatter
    ("Here are the 3 passages, ranked: [2] > [3] > [1]", (1, 2, 0), {"chatter": 1}),
    ("The top 2 documents are: Document 3, Document 1", (2, 0, 1), {"missing": 1, "chatter": 1}),
    ("Sure! 2, 3, 1", (1, 2, 0), {"chatter": 1}),
    ("[2] > [3] > [1]\n\n[2] describes 1 bear in 1869.", (1, 2, 0), {"duplicates": 1, "chatter": 1}),
    ("1. [2] > [3] > [1]", (1, 2, 0), {"chatter": 1}),
    ("1. [2] > 2. [3] > 3. [1]", (1, 2, 0), {"chatter": 1}),
    ("1. [2]\n2. [3]\n3. [1]", (1, 2, 0), {"chatter": 1}),
    ("1) Passage 2\n2) Passage 3\n3) Passage 1", (1, 2, 0), {"chatter": 1}),
    ("1: 2\n2: 3\n3: 1", (1, 2, 0), {"chatter": 1}),
    ("[2] (score: 0.95) > [3] (0.9) > [1] (3)", (1, 2, 0), {"chatter": 1}),
    ("[2] 0.95 > [3] 0.9 > [1] 0.1", (1, 2, 0), {}),
    ("The 2nd: 3, then 1", (2, 0, 1), {"missing": 1, "chatter": 1}),
    ("GPT-4 and CO2 say 3 > 1 > 2", (2, 0, 1), {"chatter": 1}),
    ('{"ranking": [2, 3, 1], "passages": 3}', (1, 2, 0), {"chatter": 1}),
    ("```json\n[2, 3, 1]\n```", (1, 2, 0), {"chatter": 1}),
    ("根据相关性：[2] > [3] > [1]", (1, 2, 0), {"chatter": 1}),
    ("[1] is short, [2] is long, [3] is best. Ranking: [3] > [2] > [1]", (2, 1, 0), {"chatter": 1}),
    ("[1] is the best, then [2] > [3]", (0, 1, 2), {"chatter": 1}),
    ("[2], [3] > [1]", (1, 2, 0), {}),
    ("3. 1. 2.", (2, 0, 1), {"chatter": 1}),
    ("1. [3] > 3. [1] > 7. [2]", (2, 0, 1), {"chatter": 1}),
    ("[3] > 2. [1] > 3. [2]", (2, 0, 1), {}),
    ("3. > 1. > 2.", (2, 0, 1), {"chatter": 1}),
    ("Ranking (3 passages): 2, 3, 1", (1, 2, 0), {"chatter": 1}),
    ("The top 2 passages are 3 and 1.", (2, 0, 1), {"missing": 1, "chatter": 1}),
    ("[2] < [3] < [1]", (1, 2, 0), {"chatter": 1}),
    # chains of thought
    ("<think>[1] is about 1869, [3] is not.</think>[2] > [3] > [1]", (1, 2, 0), {}),
    ("[1] is about bears.</think>\n[2] > [3] > [1]", (1, 2, 0), {}),
    ("<think>[1]</think>[1]<think>[3]</think>[2] > [3] > [1]", (1, 2, 0), {}),
    ("<reason>[1] is best</reason>\n[2] > [3] > [1]", (1, 2, 0), {}),
    ("<think>a</think> so: <answer>[2] > [3] > [1]</answer> [1]", (1, 2, 0), {}),
    ("<Answer>\n[2] > [3] > [1]\n</Answer>", (1, 2, 0), {}),
    ("<answer>[2] > [3] > [1]", (1, 2, 0), {}),
    ("<think>hm <answer>[2] > [3] > [1]</answer>", (1, 2, 0), {}),
    ("in <answer> tags: <answer>[2] > [3] > [1]</answer>", (1, 2, 0), {}),
    ("<think> [2] > [3]? or [1]", (0, 1, 2), {"unreadable": 1}),
    ("<answer></answer>", (0, 1, 2), {"unreadable": 1}),
    ("[THINK]1 > 2[/THINK]2 > 3 > 1", (1, 2, 0), {}),
    ("<thought>[1] > [2]</thought>[2] > [3] > [1]", (1, 2, 0), {}),
    ("◁think▷[1]◁/think▷[2] > [3] > [1]", (1, 2, 0), {}),
    ("<|channel|>analysis<|message|>[1] > [2]<|end|><|channel|>final<|message|>[2] > [3] > [1]", (1, 2, 0), {}),
    # nothing
    ("", (0, 1, 2), {"unreadable": 1}),
    ("\n\n[] > []", (0, 1, 2), {"unreadable": 1}),
    ("I cannot help with that.", (0, 1, 2), {"unreadable": 1}),
    ("[A] > [B] > [C]", (0, 1, 2), {"unreadable": 1}),
    ("[7] > [8]", (0, 1, 2), {"unreadable": 1}),
    ("3.5", (0, 1, 2), {"unreadable": 1}),
    ("\x00\ud800 � \U0010ffff", (0, 1, 2), {"unreadable": 1}),
]


@pytest.mark.parametrize(("text", "order", "faults"), ORDERS)
def test_an_order(text: str, order: tuple[int, ...], faults: dict[str, int]) -> None:
    read = parse_permutation(text, 3)
    assert read.order == order
    assert {name: number for name, number in read.faults.items() if number} == faults
    assert read.is_given == ("unreadable" not in faults)
    assert read.is_whole == (not faults.keys() - {"chatter"})


@pytest.mark.parametrize(
    ("text", "order", "faults"),
    [
        ("[B] > [C] > [A]", (1, 2, 0), {}),
        ("B > C > A", (1, 2, 0), {}),
        ("BCA", (0, 1, 2), {"unreadable": 1}),
        ("B, C, A", (1, 2, 0), {}),
        ("[B, C, A]", (1, 2, 0), {}),
        ("Ｂ＞Ｃ＞Ａ", (1, 2, 0), {}),
        ("B] > [C] > A", (1, 2, 0), {}),
        ("Passage B, Passage C, Passage A", (1, 2, 0), {}),
        ("A good order is [B] > [C] > [A]", (1, 2, 0), {"chatter": 1}),
        ("A Good order: Passage B, then Passage C", (1, 2, 0), {"missing": 1, "chatter": 1}),
        ("[B] > [D] > [B]", (1, 0, 2), {"duplicates": 1, "unknown": 1, "missing": 2}),
        ("[2] > [3] > [1]", (0, 1, 2), {"unreadable": 1}),
        ("[b] > [c] > [a]", (0, 1, 2), {"unreadable": 1}),
    ],
)
def test_an_order_of_letters(text: str, order: tuple[int, ...], faults: dict[str, int]) -> None:
    read = parse_permutation(text, 3, letters=True)
    assert read.order == order
    assert {name: number for name, number in read.faults.items() if number} == faults


@pytest.mark.parametrize(
    ("text", "order"),
    [
        ("[3] > [2] > [4] = [1] > [5]", (2, 1, 0, 3, 4)),
        ("[5]=[4]=[3] > [2] = [1]", (2, 3, 4, 0, 1)),
        ("4 = 2 > 5 = 1 = 3", (1, 3, 0, 2, 4)),
        ("[4] ＝ [2] > [5]", (1, 3, 4, 0, 2)),
        ("[3] > [2] = [2] = [1]", (2, 0, 1, 3, 4)),
        ("[4] = [9] = [2]", (1, 3, 0, 2, 4)),
        ("= > [4] = = [2] >", (1, 3, 0, 2, 4)),
    ],
)
def test_ties_keep_their_given_order(text: str, order: tuple[int, ...]) -> None:
    assert parse_permutation(text, 5, ties=True).order == order


def test_without_ties_a_tie_is_an_order() -> None:
    assert parse_permutation("[3] = [1]", 3).order == (2, 0, 1)


def test_numbers_may_begin_elsewhere() -> None:
    assert parse_permutation("[0] > [2] > [1]", 3, first=0).order == (0, 2, 1)
    assert parse_permutation("[7] > [5] > [6]", 3, first=5) == Permutation((2, 0, 1), 3)
    assert parse_choice("[0]", 3, letters=False, first=0) == 0


def test_of_no_passages_there_is_an_order() -> None:
    assert parse_permutation("[1]", 0) == Permutation((), 0, unknown=1)
    assert parse_permutation("", 0).faults == {"duplicates": 0, "unknown": 0, "missing": 0, "chatter": 0}


@pytest.mark.parametrize(
    ("text", "choice"),
    [
        ("C", 2),
        ("c", 2),
        (" Passage:C", 2),
        ("Passage C", 2),
        ("passage c.", 2),
        ("Passage C: “…”", 2),
        ("[C]", 2),
        ("(C)", 2),
        ("**C**", 2),
        ("<think>A or B?</think>\nC", 2),
        ("The most relevant passage is Passage C.", 2),
        ("A comprehensive answer is in Passage C", 2),
        ("Passage C is more relevant than Passage A", 2),
        ("C is the best, A is not", 2),
        ("Z, or C", 2),
        ("Ｃ", 2),
        ("", None),
        ("D", None),
        ("Passage", None),
        ("none of them", None),
        ("<think>C", None),
        ("3", None),
    ],
)
def test_a_choice(text: str, choice: int | None) -> None:
    assert parse_choice(text, 3) == choice


@pytest.mark.parametrize(
    ("text", "choice"),
    [
        ("<think> [1] or [2] </think> <answer>[3]</answer>", 2),
        ("<think> [1] <answer>[3]</answer>.", 2),
        ("<think> [1] or [2]", None),
        ("3", 2),
        ("The 3rd one: [3]", 2),
        ("Document 3 of 3", 2),
        ("<answer>third</answer>", None),
        ("[4]", None),
        ("[9] [3]", 2),
    ],
)
def test_a_choice_by_number(text: str, choice: int | None) -> None:
    assert parse_choice(text, 3, letters=False) == choice


def test_what_an_answer_says_at_its_end() -> None:
    assert final_answer("a </think> b <answer> c\n \n d </answer> e") == " c\n \n d "


def test_an_answer_in_plain_digits() -> None:
    assert in_plain_digits(" c\n \n d ") == " c\nd "
    assert in_plain_digits("plain  ③\t³ Ｂ") == "plain 3 3 B"


LONG: dict[str, Callable[[int], str]] = {
    "spaces": lambda n: "5" + " " * n,
    "line breaks": lambda n: "[5" + "\n" * n,
    "digits": lambda n: "1" * n,
    "decimals": lambda n: "1." * (n // 2),
    "brackets": lambda n: "[" * n,
    "open brackets": lambda n: "[1" * (n // 2),
    "letters": lambda n: "A" * n,
    "single letters": lambda n: "A " * (n // 2),
    "words": lambda n: "passage " * (n // 8),
    "and": lambda n: "document 1" + " and 1" * (n // 6),
    "answers": lambda n: "<answer>" * (n // 8),
    "thoughts": lambda n: "<think></think>" * (n // 15),
    "joints": lambda n: ">=" * (n // 2),
    "line numbers": lambda n: "1. " * (n // 3),
    "punctuation": lambda n: "-" * n,
    "Chinese": lambda n: "文" * n,
    "circles": lambda n: "①" * n,
    "a ranking again and again": lambda n: "[2] > [1]\n" * (n // 10),
}


@pytest.mark.parametrize("name", LONG)
def test_time_is_linear(name: str) -> None:
    """An answer of a megabyte, of which a tenth is read, takes a few times as long as a tenth of that."""

    def seconds(length: int) -> float:
        text = LONG[name](length)
        began = time.process_time()
        parse_permutation(text, 20, ties=True)
        parse_choice(text, 20)
        return time.process_time() - began

    assert seconds(1_000_000) < 40 * max(seconds(10_000) for _ in range(3)) + 0.2


def test_the_end_of_a_very_long_thought_is_read() -> None:
    thought = "[1] may be better than [2]. " * 40_000
    assert parse_permutation(f"<think>{thought}</think>\n[3] > [2] > [1]", 3) == Permutation((2, 1, 0), 3)
    assert parse_permutation(f"{thought}<answer>[3] > [2] > [1]</answer>", 3) == Permutation((2, 1, 0), 3)
    assert not parse_permutation(f"<think>{thought}", 3).is_given


def check(text: str, n: int, letters: bool = False, ties: bool = False, first: int = 1) -> Permutation:
    """What holds of every answer."""
    read = parse_permutation(text, n, letters=letters, ties=ties, first=first)
    assert sorted(read.order) == list(range(n))
    assert read.named + read.missing == n
    assert list(read.order[read.named :]) == sorted(read.order[read.named :])
    assert min(read.named, read.duplicates, read.unknown) >= 0
    assert read.is_given == (read.named > 0)
    assert not read.is_whole or not any(read.faults[name] for name in ("missing", "duplicates", "unknown"))
    choice = parse_choice(text, n, letters=letters, first=first)
    assert choice is None or 0 <= choice < n
    return read


@settings(max_examples=300, deadline=None)
@given(st.text(max_size=200), st.integers(0, 30), st.booleans(), st.booleans(), st.integers(0, 3))
@example("[1] > [2", 2, False, True, 1)
def test_any_text_gives_a_permutation(text: str, n: int, letters: bool, ties: bool, first: int) -> None:
    check(text, min(n, len(LETTERS)) if letters else n, letters, ties, first)


_FORMS = st.sampled_from(["[{}]", "{}", "Passage {}", "({})", "[Document {}]", "**[{}]**"])
_JOINTS = st.sampled_from([" > ", ">", " >\n", ", ", "\n"])


@settings(max_examples=200, deadline=None)
@given(st.permutations(range(20)), _FORMS, _JOINTS, st.booleans())
def test_a_clean_answer_is_read_as_it_is(order: list[int], form: str, joint: str, letters: bool) -> None:
    names = [LETTERS[position] if letters else str(position + 1) for position in order]
    read = check(joint.join(form.format(name) for name in names), 20, letters)
    assert read == Permutation(tuple(order), 20)


@settings(max_examples=200, deadline=None)
@given(st.lists(st.integers(-2, 25).map(abs), max_size=40))
def test_what_an_answer_names_is_counted(names: list[int]) -> None:
    read = check(" > ".join(f"[{name}]" for name in names), 20)
    known = [name for name in names if 1 <= name <= 20]
    assert read.unknown == len(names) - len(known)
    assert read.duplicates == len(known) - len({*known})
    assert read.order[: read.named] == tuple(name - 1 for name in dict.fromkeys(known))


_SCRAPS = [
    *"[](){}<>=,.:;|*#-–→·\n\t \x00²③٣３文é",
    *(f"[{n}]" for n in (0, 1, 7, 21, 10**12)),
    *(
        "<think>",
        "</think>",
        "<answer>",
        "</answer>",
        "[rankstart]",
        "[rankend]",
        "```json",
        '{"ranking": [',
        "Passage ",
    ),
    *("Document 3", "1. ", "0.95", " and ", "The most relevant is ", "\n\n", "20", "A", "passage b", "=", " > "),
]


def mutated(draw: random.Random) -> tuple[str, int, bool, bool]:
    """A realistic answer with a few accidents."""
    n, letters, ties = draw.randint(1, 24), draw.random() < 0.25, draw.random() < 0.2
    names = list(LETTERS[:n]) if letters else [str(number) for number in range(1, n + 1)]
    draw.shuffle(names)
    form = draw.choice(["[{}]", "[{}]", "[{}]", "{}", "Passage {}", "[PASSAGE{}]"])
    joint = draw.choice([" > ", " > ", " > ", ">", ", ", "\n", " = " if ties else " "])
    text = joint.join(form.format(name) for name in names)
    for _ in range(draw.choice([0, 1, 1, 2, 4, 12])):
        at = draw.randint(0, len(text))
        to = min(len(text), at + draw.choice([0, 0, 1, 3, 9]))
        accident = draw.randrange(4)
        if accident == 0:
            text = text[:at] + draw.choice(_SCRAPS) + text[to:]
        elif accident == 1:
            text = text[:at] + text[to:]
        elif accident == 2:
            text = text[:to] + text[at:]
        else:
            text = draw.choice(_SCRAPS) + text + draw.choice(_SCRAPS)
    return text[: draw.choice([None, None, None, draw.randint(0, len(text))])], n, letters, ties


def test_fuzzed_answers() -> None:
    """As many as ``RERANK_FUZZ_ANSWERS`` says: 10,000 in continuous integration, and a million in the session ``fuzz``."""
    count = int(os.environ.get("RERANK_FUZZ_ANSWERS", "10_000"))
    draw = random.Random(20)
    whole = given_at_all = 0
    for _ in range(count):
        text, n, letters, ties = mutated(draw)
        read = check(text, n, letters, ties)
        whole += read.is_whole
        given_at_all += read.is_given
    assert 0.2 * count < whole < given_at_all < count


@pytest.mark.parametrize(
    "prompt", ["<|im_start|>assistant\n<think>\n", "[THINK]", "a <think> b", "<think></think>\n\n", ""]
)
def test_a_thought_that_a_prompt_leaves_open(prompt: str) -> None:
    opened = open_thought(prompt)
    assert opened == {"<": "<think>\n", "[": "[THINK]"}.get(
        prompt[:1] if prompt.strip().endswith(("<think>", "[THINK]")) else "", ""
    )
    if opened:
        assert not parse_permutation(opened + "at first sight [3] > [1], but", 3).is_given
