"""Items that another thread makes before they are needed."""

from __future__ import annotations

import itertools
import threading
from collections.abc import Iterator

import pytest
import torch

from trickzoo.data.prefetch import NUMBER, ahead
from trickzoo.errors import BadData

CPU = torch.device("cpu")


def test_another_thread_makes_all_items_but_the_first_in_order() -> None:
    threads = []

    def items() -> Iterator[int]:
        for number in range(6):
            threads.append(threading.get_ident())
            yield number

    assert list(ahead(items(), CPU)) == [0, 1, 2, 3, 4, 5]
    assert threads[0] == threading.get_ident()
    assert len(set(threads[1:])) == 1 and threads[0] not in threads[1:]
    assert list(ahead(iter(()), CPU)) == []


def test_an_error_is_raised_in_the_place_of_its_item() -> None:
    def items() -> Iterator[int]:
        yield from range(3)
        raise BadData("lost.jpg cannot be read")

    made = ahead(items(), CPU)
    assert [next(made) for _ in range(3)] == [0, 1, 2]
    with pytest.raises(BadData, match="lost"):
        next(made)


def test_the_other_thread_computes_on_one_core_and_this_one_on_as_many_as_before() -> None:
    before = torch.get_num_threads()

    def items() -> Iterator[int]:
        for _ in range(3):
            yield torch.get_num_threads()

    torch.set_num_threads(3)
    try:
        assert list(ahead(items(), CPU)) == [3, 1, 1]
        assert torch.get_num_threads() == 3
    finally:
        torch.set_num_threads(before)


def test_closing_ends_the_thread() -> None:
    before, numbers = threading.active_count(), itertools.count()
    made = ahead(numbers, CPU)
    assert (next(made), next(made)) == (0, 1)
    made.close()  # type: ignore[attr-defined]
    assert threading.active_count() == before
    assert next(numbers) <= 2 + NUMBER
