"""Every algorithm with a model that knows the truth: its order, its questions, its calls and its rounds."""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from typing import Any

import pytest
from oracle import Oracle, solve

from rerank_listwise import pairwise, setwise
from rerank_listwise.derive import derive
from rerank_listwise.listwise import grade_groups, one_pass, rearranged, sliding_window, top_down, tournament, windows
from rerank_listwise.questions import Answer, Question
from rerank_listwise.rounds import arun, run, together, translate, without_repeats

ALGORITHMS: dict[str, Callable[[Sequence[int]], Any]] = {
    "sliding-window": lambda c: sliding_window(c, size=20, stride=10),
    "top-down": lambda c: top_down(c, size=20, pivot=8),
    "tournament": lambda c: tournament(c, size=20, runs=10, seed=0),
    "setwise-heapsort": lambda c: setwise.heapsort(c, children=3, top=10),
    "setwise-insertion": lambda c: setwise.insertion(c, children=3, top=10),
    "pairwise-all-pairs": pairwise.all_pairs,
    "pairwise-heapsort": lambda c: pairwise.heapsort(c, top=10),
    "pairwise-bubble": lambda c: pairwise.bubble(c, top=10),
    "groups": lambda c: grade_groups(c, size=20, epochs=2, seed=0),
    "one-pass": one_pass,
}


def shuffled(count: int, seed: int = 0) -> list[float]:
    grades = [float(grade) for grade in range(count)]
    random.Random(seed).shuffle(grades)
    return grades


@pytest.mark.parametrize("name", ALGORITHMS)
@pytest.mark.parametrize("count", [1, 2, 3, 7, 20, 21, 25, 39, 100, 137])
def test_every_candidate_comes_out_once(name: str, count: int) -> None:
    order = solve(ALGORITHMS[name](range(count)), Oracle(shuffled(count), noise=count / 4))
    assert sorted(order) == list(range(count))


@pytest.mark.parametrize("name", [name for name in ALGORITHMS if name != "tournament"])
@pytest.mark.parametrize("count", [1, 5, 20, 33, 100])
def test_a_model_that_knows_finds_the_ten_best_in_order(name: str, count: int) -> None:
    grades = shuffled(count, seed=count)
    wanted = sorted(range(count), key=lambda passage: -grades[passage])[:10]
    assert solve(ALGORITHMS[name](range(count)), Oracle(grades))[:10] == wanted


@pytest.mark.parametrize("count", [5, 20, 33, 100])
def test_a_tournament_finds_the_two_best(count: int) -> None:
    grades = shuffled(count, seed=count)
    order = solve(ALGORITHMS["tournament"](range(count)), Oracle(grades))
    assert {*order[:2]} == {*sorted(range(count), key=lambda passage: -grades[passage])[:2]}


@pytest.mark.parametrize(
    ("name", "calls", "rounds"),
    [
        ("sliding-window", 9, 9),
        ("top-down", 9, 3),
        ("tournament", 130, 5),
        ("pairwise-all-pairs", 9900, 1),
        ("groups", 10, 1),
        ("one-pass", 1, 1),
    ],
)
def test_calls_and_rounds_for_a_hundred_candidates(name: str, calls: int, rounds: int) -> None:
    oracle = Oracle([100.0 - position for position in range(100)], noise=20.0)
    solve(ALGORITHMS[name](range(100)), oracle)
    assert oracle.rounds == rounds
    assert oracle.calls == calls


@pytest.mark.parametrize(
    ("count", "size", "stride", "wanted"),
    [
        (100, 20, 10, [(80, 100), (70, 90), (60, 80), (50, 70), (40, 60), (30, 50), (20, 40), (10, 30), (0, 20)]),
        (20, 20, 10, [(0, 20)]),
        (7, 20, 10, [(0, 7)]),
        (25, 20, 10, [(5, 25), (0, 15)]),
        (5, 2, 1, [(3, 5), (2, 4), (1, 3), (0, 2)]),
        (6, 3, 3, [(3, 6), (0, 3)]),
    ],
)
def test_windows_cover_the_list_and_end_at_its_head(
    count: int, size: int, stride: int, wanted: list[tuple[int, int]]
) -> None:
    assert list(windows(count, size, stride)) == wanted


def test_two_passes_go_through_the_list_twice() -> None:
    oracle = Oracle(shuffled(100))
    solve(sliding_window(range(100), size=20, stride=10, passes=2), oracle)
    assert oracle.calls == 18


def test_the_pivot_stands_first_in_every_partition() -> None:
    oracle = Oracle(shuffled(100))
    solve(top_down(range(100), size=20, pivot=10, arrangements=2), oracle)
    (first,), partitions = oracle.asked[0], oracle.asked[1]
    assert first.passages == tuple(range(20))
    pivot = sorted(range(20), key=lambda passage: -oracle.grades[passage])[9]
    assert {question.passages[0] for question in partitions} == {pivot}
    assert [len(question.passages) for question in partitions] == [20, 20, 20, 20, 5]


@pytest.mark.parametrize("size", [3, 4, 5, 8, 20])
@pytest.mark.parametrize("count", [21, 100, 500])
def test_top_down_finds_the_better_half_of_a_window_wherever_it_stands(size: int, count: int) -> None:
    for seed in range(5):
        grades = shuffled(count, seed)
        for pivot in range(1, size):
            order = solve(top_down(range(count), size=size, pivot=pivot), Oracle(grades))
            assert order[: size // 2] == sorted(range(count), key=lambda p: -grades[p])[: size // 2]


def test_top_down_halves_what_beats_the_pivot_until_it_fits_into_one_window() -> None:
    oracle = Oracle([float(position) for position in range(100)])  # the best come last
    solve(top_down(range(100), size=20, pivot=8), oracle)
    assert [len(asked) for asked in oracle.asked] == [1, 5, 3, 2, 3]
    assert all(len(question.passages) <= 20 for asked in oracle.asked for question in asked)


def test_the_last_window_is_asked_about_in_several_arrangements() -> None:
    oracle = Oracle(shuffled(12))
    solve(top_down(range(12), size=20, pivot=8, arrangements=3), oracle)
    one, two, three = (question.passages for question in oracle.asked[0])
    assert (one, two) == (tuple(range(12)), tuple(range(11, -1, -1)))
    assert sorted(three) == list(one)
    assert three not in (one, two)


def test_passages_that_no_answer_names_stay_where_they_were_in_every_arrangement() -> None:
    def name_one(questions: Sequence[Question]) -> list[Answer]:
        return [Answer((3, *(p for p in question.passages if p != 3)), named=1) for question in questions]

    assert run(rearranged(range(6), 2), name_one) == [3, 0, 1, 2, 4, 5]


def test_the_stages_of_a_tournament_are_those_of_the_paper() -> None:
    oracle = Oracle(shuffled(100))
    solve(tournament(range(100), size=20, runs=1, seed=3), oracle)
    stages = [[(len(question.passages), question.count) for question in asked] for asked in oracle.asked]
    assert stages == [[(20, 10)] * 5, [(10, 4)] * 5, [(20, 10)], [(10, 5)], [(5, 2)]]
    assert {passage % 5 for passage in oracle.asked[0][2].passages} == {2}


def test_both_orders_are_asked_and_a_contradiction_is_a_tie() -> None:
    def always_first(questions: Sequence[Question]) -> list[Answer]:
        return [Answer(question.passages) for question in questions]

    assert run(pairwise.compare(1, 0), always_first) == 0.5
    assert run(pairwise.all_pairs(range(3)), always_first) == {0: 1.0, 1: 1.0, 2: 1.0}
    assert run(pairwise.bubble(range(5), top=5), always_first) == [0, 1, 2, 3, 4]


def test_probabilities_of_pairs_are_summed() -> None:
    def answer(questions: Sequence[Question]) -> list[Answer]:
        return [Answer(q.passages, {q.passages[0]: 0.7, q.passages[1]: 0.3}) for q in questions]

    assert run(pairwise.all_pairs(range(2)), answer) == pytest.approx({0: 0.5, 1: 0.5})


def test_unreadable_answers_keep_the_order() -> None:
    def nothing(questions: Sequence[Question]) -> list[Answer]:
        return [Answer(q.passages if q.kind == "order" else (), named=0) for q in questions]

    for algorithm in (
        sliding_window(range(50), size=20, stride=10),
        top_down(range(20), size=20, pivot=8),
        setwise.heapsort(range(9), children=3, top=1),
        setwise.insertion(range(9), children=3, top=1),
        pairwise.heapsort(range(9), top=1),
        pairwise.bubble(range(9), top=9),
        tournament(range(9), size=20, runs=2, seed=0),
    ):
        order = run(algorithm, nothing)
        assert order == list(range(len(order)))


def test_a_window_without_an_answer_costs_only_itself() -> None:
    truth = Oracle([float(position) for position in range(40)])

    def silent_once(questions: Sequence[Question]) -> list[Answer]:
        answers = truth(questions)
        return [Answer(questions[0].passages, named=0), *answers[1:]] if truth.rounds == 1 else answers

    assert run(sliding_window(range(40), size=20, stride=10), silent_once)[0] == 39 - 10


def test_a_group_without_grades_does_not_lower_the_mean() -> None:
    def grade_once(questions: Sequence[Question]) -> list[Answer]:
        one = Answer(tuple(range(9)), {passage: passage / 10 for passage in range(9)})
        return [one, *(Answer((), {}) for _ in questions[1:])]

    assert run(grade_groups(range(9), size=9, epochs=2, seed=0), grade_once) == {p: p / 10 for p in range(9)}


@pytest.mark.parametrize("kinds", [{"order"}, {"grade"}, {"compare"}, {"best"}])
@pytest.mark.parametrize("name", [name for name in ALGORITHMS if name not in ("groups", "one-pass", "tournament")])
def test_any_algorithm_runs_with_any_model(name: str, kinds: set[Any]) -> None:
    grades = shuffled(30)
    oracle = Oracle(grades)
    order = solve(translate(ALGORITHMS[name](range(30)), lambda question: derive(question, kinds)), oracle)
    assert order[:10] == sorted(range(30), key=lambda passage: -grades[passage])[:10]
    assert {question.kind for asked in oracle.asked for question in asked} == kinds


def test_works_of_different_lengths_run_side_by_side() -> None:
    def work(rounds: int) -> Any:
        got = []
        for n in range(rounds):
            got += yield [(rounds, n), (rounds, -n)]
        return got

    sizes: list[int] = []

    def do(items: Sequence[Any]) -> list[str]:
        sizes.append(len(items))
        return [str(item) for item in items]

    first, second, none = run(together([work(1), work(3), work(0)]), do)
    assert sizes == [4, 2, 2]
    assert first == ["(1, 0)", "(1, 0)"]
    assert second[-1] == "(3, -2)"
    assert none == []


def test_a_question_is_asked_once() -> None:
    def work() -> Any:
        first = yield ["a", "b", "a"]
        second = yield ["b", "c"]
        third = yield ["c"]
        return [*first, *second, *third]

    asked: list[list[str]] = []

    def do(items: Sequence[str]) -> list[str]:
        asked.append(list(items))
        return [item.upper() for item in items]

    assert run(without_repeats(work()), do) == ["A", "B", "A", "B", "C", "C"]
    assert asked == [["a", "b"], ["c"]]


def test_an_error_ends_a_work_where_it_waits() -> None:
    closed: list[bool] = []

    def work() -> Any:
        try:
            yield [1]
        finally:
            closed.append(True)

    def do(items: Sequence[int]) -> list[int]:
        raise OSError("gone")

    with pytest.raises(OSError, match="gone"):
        run(without_repeats(work()), do)
    assert closed == [True]


def test_asynchronous_and_synchronous_runs_agree() -> None:
    import asyncio

    oracle, other = Oracle(shuffled(50), 5.0), Oracle(shuffled(50), 5.0)

    async def do(questions: Sequence[Question]) -> list[Answer]:
        return other(questions)

    algorithm = ALGORITHMS["top-down"]
    assert run(algorithm(range(50)), oracle) == asyncio.run(arun(algorithm(range(50)), do))
