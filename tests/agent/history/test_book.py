"""agent.history.book: what is new, what goes on."""

import dataclasses

from agent.control import Result
from agent.history.book import FLUSH_S, GAP_S, Book, Update
from agent.history.entries import Entry
from tests.agent.made_up_entries import at, decided, held, outcome


def begun(book: Book, entry: Entry, id: int = 1) -> None:
    assert not book.goes_on(entry)
    book.begun(dataclasses.replace(entry, id=id))


def end_of(update: Update) -> float:
    """Seconds since the made-up boot."""
    return (update.end_wall_ns - at(0).wall_ns) / 1e9


def test_the_same_decision_again_goes_on_and_is_counted() -> None:
    """Whatever figures its words have; it is written when it is over."""
    book = Book()
    begun(book, decided(0, outcome(1, result=Result.DRY_RUN), reason="p20 4.1 ms"))
    assert book.goes_on(decided(1, outcome(1, result=Result.DRY_RUN), reason="p20 3.9 ms"))
    assert book.goes_on(decided(2, outcome(1, result=Result.DRY_RUN), reason="p20 12 ms"))
    assert book.due(at(2 + GAP_S)) == []
    (update,) = book.due(at(2 + GAP_S + 1))
    assert (update.entry_id, end_of(update), update.times, update.lasts) == (1, 2, 3, False)
    assert book.due(at(1000)) == []


def test_what_differs_is_another_decision() -> None:
    """In value, result, cause, words or direction."""
    first = decided(0, outcome(1))
    for other in (
        decided(1, outcome(2)),
        decided(1, outcome(1, result=Result.REFUSED)),
        decided(1, outcome(1), cause=None),
        decided(1, outcome(1), reason="because"),
        decided(1, outcome(1), gives_back=True),
    ):
        book = Book()
        begun(book, first)
        assert not book.goes_on(other)


def test_on_off_on_is_three_decisions_and_not_two() -> None:
    book = Book()
    for second, value in enumerate((1, 0, 1)):
        begun(book, decided(second, outcome(value)), id=second)


def test_decisions_for_two_groups_go_on_side_by_side() -> None:
    book = Book()
    begun(book, decided(0, outcome(1), group_id=1), id=1)
    begun(book, decided(0, outcome(1), group_id=2), id=2)
    assert book.goes_on(decided(1, outcome(1), group_id=1))
    assert book.goes_on(decided(1, outcome(1), group_id=2))


def test_after_a_gap_it_is_a_new_decision() -> None:
    book = Book()
    begun(book, decided(0, outcome(1)))
    assert book.goes_on(decided(GAP_S, outcome(1)))
    assert not book.goes_on(decided(2 * GAP_S + 1, outcome(1)))


def test_what_goes_on_for_long_is_written_now_and_then() -> None:
    book = Book()
    begun(book, decided(0, outcome(1)))
    written = []
    for second in range(1, 2 * FLUSH_S + 1):
        assert book.goes_on(decided(second, outcome(1)))
        written += book.due(at(second))
    assert [(end_of(update), update.times) for update in written] == [(FLUSH_S, FLUSH_S + 1), (2 * FLUSH_S, 121)]


def test_a_hold_is_written_when_it_ends() -> None:
    book = Book()
    begun(book, held(0))
    book.held_only([], at(7))
    assert book.due(at(7)) == []  # it may come again
    (update,) = book.due(at(7 + GAP_S + 1))
    assert (end_of(update), update.times, update.lasts) == (7, 1, False)


def test_a_hold_that_lasts_is_written_now_and_then_without_being_told_again() -> None:
    """So that after kill -9 its end is known to a minute."""
    book = Book()
    begun(book, held(0))
    assert book.due(at(FLUSH_S - 1)) == []
    (update,) = book.due(at(FLUSH_S))
    assert (end_of(update), update.lasts) == (FLUSH_S, True)


def test_a_hold_that_comes_and_goes_is_one_entry() -> None:
    book = Book()
    begun(book, held(0))
    for second in range(1, 9, 2):
        book.held_only([], at(second))
        assert book.goes_on(held(second + 1))
    book.held_only([], at(9))
    (update,) = book.due(at(9), everything=True)
    assert (end_of(update), update.times, update.lasts) == (9, 5, False)


def test_one_hold_ends_while_another_lasts() -> None:
    book = Book()
    begun(book, held(0, "one"), id=1)
    begun(book, held(0, "other"), id=2)
    book.held_only([held(5, "other")], at(5))
    assert [(update.entry_id, update.lasts) for update in book.due(at(6), everything=True)] == [(1, False), (2, True)]
