"""The fair queue: first come within a key, in turns between keys."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from omniroute.gateway.queueing import FairQueue

Item = tuple[str, int]


def filled(*keys: str) -> FairQueue[Item]:
    queue: FairQueue[Item] = FairQueue()
    for number, key in enumerate(keys):
        queue.push(key, (key, number))
    return queue


def served(queue: FairQueue[Item]) -> list[Item]:
    order = []
    while (item := queue.first()) is not None:
        queue.serve(item[0], item)
        order.append(item)
    return order


def test_a_key_is_served_in_the_order_of_arrival() -> None:
    assert served(filled("a", "a", "a")) == [("a", 0), ("a", 1), ("a", 2)]


def test_keys_take_turns() -> None:
    assert [key for key, _ in served(filled("a", "a", "a", "a", "b", "b", "c"))] == list("abcabaa")


def test_a_key_that_comes_late_is_second_not_last() -> None:
    queue = filled("a", "a", "a")
    first = queue.first()
    assert first is not None
    queue.serve("a", first)
    queue.push("b", ("b", 9))

    assert [key for key, _ in served(queue)] == ["a", "b", "a"]


def test_who_leaves_costs_its_key_no_turn() -> None:
    queue = filled("a", "a", "b")

    assert queue.remove("a", ("a", 0))
    assert queue.first() == ("a", 1)
    assert not queue.remove("a", ("a", 0))
    assert not queue.remove("z", ("z", 0))
    assert len(queue) == 2


def test_the_newest_of_the_fullest_key_goes() -> None:
    assert filled("a", "b", "a", "b", "b").most_crowded() == ("b", 4)
    assert filled("a", "a", "b").most_crowded() == ("a", 1)
    assert filled("b", "a").most_crowded() == ("a", 1)
    assert filled("a", "b", "a", "b", "a").most_crowded() == ("a", 4)
    assert FairQueue[Item]().most_crowded() is None


@given(st.lists(st.one_of(st.sampled_from("abcd"), st.just("serve"), st.integers(0, 30)), max_size=60))
def test_nothing_is_lost_or_served_twice_and_nobody_is_passed_by_twice(steps: list[str | int]) -> None:
    queue: FairQueue[Item] = FairQueue()
    waiting: list[Item] = []
    passed_by: dict[Item, set[Item]] = {}
    for number, step in enumerate(steps):
        match step:
            case "serve":
                if (item := queue.first()) is None:
                    assert waiting == []
                    continue
                queue.serve(item[0], item)
                assert item == next(one for one in waiting if one[0] == item[0]), "first come within a key"
                waiting.remove(item)
                for key in {one[0] for one in waiting} - {item[0]}:
                    head = next(one for one in waiting if one[0] == key)
                    others = {one[0] for one in passed_by.setdefault(head, set())}
                    assert item[0] not in others, "a key went twice while another had one waiting"
                    passed_by[head].add(item)
            case str():
                queue.push(step, (step, number))
                waiting.append((step, number))
            case int():
                if waiting:
                    item = waiting.pop(step % len(waiting))
                    # Whoever moves up in its key takes over the turn.
                    passed_by.setdefault(item, set())
                    heir = next((one for one in waiting if one[0] == item[0]), None)
                    if heir is not None:
                        passed_by.setdefault(heir, set()).update(passed_by[item])
                    assert queue.remove(item[0], item)
        assert sorted(queue) == sorted(waiting)
        assert len(queue) == len(waiting)
