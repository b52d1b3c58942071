"""The order of training samples, and batches of them."""

from collections import Counter

import numpy as np
import pytest
import torch
from hypothesis import given, settings, strategies as st
from torch.utils.data import Dataset

from lannunet_core.errors import UserError
from lannunet_core.run.batches import EpochOrder, collate, make_loader, to_device
from lannunet_core.run.workers import end_workers, loaded_batches

# Batches


def test_tensors_are_stacked_and_the_rest_is_listed():
    items = [
        {"image": torch.full((1, 2), float(n)), "id": f"s{n}", "drawn": n, "extra": {"age": torch.tensor(n)}}
        for n in range(3)
    ]
    batch = collate(items)
    assert batch["image"].shape == (3, 1, 2)
    assert batch["id"] == ["s0", "s1", "s2"]
    assert batch["drawn"] == [0, 1, 2]
    assert batch["extra"]["age"].tolist() == [0, 1, 2]


def test_smaller_tensors_are_filled_up_on_their_far_sides():
    items = [
        {"image": torch.ones(1, 2, 3), "label": torch.ones(2, 3, dtype=torch.long)},
        {"image": torch.ones(1, 3, 2), "label": torch.ones(3, 2, dtype=torch.long)},
    ]
    batch = collate(items, {"label": -1})
    assert batch["image"][0, 0].tolist() == [[1, 1, 1], [1, 1, 1], [0, 0, 0]]
    assert batch["image"][1, 0].tolist() == [[1, 1, 0]] * 3
    assert batch["label"][0].tolist() == [[1, 1, 1], [1, 1, 1], [-1, -1, -1]]
    assert batch["label"].dtype == torch.long


def test_a_batch_moves_with_all_that_is_in_it():
    meta = torch.device("meta")
    moved = to_device(
        {"image": torch.ones(2), "id": ["a"], "extra": {"age": torch.ones(1), "note": [None]}}, meta
    )
    assert moved["image"].device == moved["extra"]["age"].device == meta
    assert moved["id"] == ["a"]
    assert moved["extra"]["note"] == [None]


class Squares(Dataset):
    """Refuse values over 5."""

    def __len__(self):
        return 9

    def __getitem__(self, index):
        if index > 5:
            raise UserError(f"{index}: is too much. Take less.")
        return {"square": torch.full((index + 1,), index**2)}


@pytest.mark.parametrize("workers", [0, 1])
def test_a_loader(workers):
    before = torch.get_rng_state()
    loader = make_loader(Squares(), workers, torch.device("cpu"), {"square": -1}, batch_size=3)
    batches = loaded_batches(loader)
    assert next(batches)["square"].tolist() == [[0, -1, -1], [1, 1, -1], [4, 4, 4]]
    assert next(batches)["square"].shape == (3, 6)
    with pytest.raises(UserError) as error:
        next(batches)
    assert str(error.value) == "6: is too much. Take less."
    assert torch.equal(torch.get_rng_state(), before)
    end_workers(loader)


# Order


@settings(max_examples=30)
@given(
    length=st.integers(1, 40),
    size=st.integers(1, 9),
    count=st.integers(1, 7),
    epochs=st.integers(1, 8),
    seed=st.integers(0, 2**40),
)
def test_every_sample_is_used_equally_often(length, size, count, epochs, seed):
    order = EpochOrder(length, size, count, seed)
    used = Counter()
    for epoch in range(epochs):
        order.set_position(epoch)
        taken = list(order)
        assert len(taken) == len(order) == count
        assert [place[:2] for batch in taken for place in batch] == [(epoch, d) for d in range(count * size)]
        used.update(index for batch in taken for _, _, index in batch)
    counts = [used[index] for index in range(length)]
    assert sum(counts) == epochs * count * size
    assert max(counts) - min(counts) <= 1


def test_the_order_follows_from_seed_and_epoch_alone():
    def epoch(number, seed=1, first=0):
        order = EpochOrder(20, 4, 6, seed)
        order.set_position(number, first)
        return [[index for _, _, index in batch] for batch in order]

    assert epoch(3) == epoch(3)
    assert epoch(3, first=2) == epoch(3)[2:]
    assert epoch(3) != epoch(4)
    assert epoch(3) != epoch(3, seed=2)
    assert epoch(2**31)  # a point far outside takes no time


def ordered(order, epoch=0, length=5):
    of = EpochOrder(length, 2, 3, 1, order)
    of.set_position(epoch)
    return [place for batch in of for place in batch]


def test_a_plugin_orders():
    assert ordered(lambda count: range(4, 4 - count, -1) if count < 5 else [4, 3, 2, 1, 0, 0], 7) == [
        (7, draw, index) for draw, index in enumerate([4, 3, 2, 1, 0, 0])
    ]
    assert [index for *_, index in ordered(lambda epoch, count: np.full(count, epoch), 3)] == [3] * 6


def test_random_numbers_of_an_order_belong_to_the_epoch():
    def order(rng, count):
        return rng.integers(5, size=count)

    assert ordered(order, 3) == ordered(order, 3)
    assert [index for *_, index in ordered(order, 3)] != [index for *_, index in ordered(order, 4)]


@pytest.mark.parametrize("answer", [[0, 1], [0, 1, 2, 3, 4, 5], [0, 1, 2, 3, 4, -1], [[0] * 6]])
def test_an_order_of_what_is_not_there_is_refused(answer):
    with pytest.raises(
        UserError, match="'training_order' returned must return 6 indices of 5 samples, but returned"
    ):
        ordered(lambda: answer)
