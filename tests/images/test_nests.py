import torch

from lannunet_core.images.nests import (
    level_sizes_of,
    levels,
    map_tensors,
    spatial_size,
)


def test_sizes_are_x_y_z():
    assert spatial_size(torch.zeros(1, 2, 5, 7)) == (7, 5)
    assert spatial_size(torch.zeros(1, 2, 3, 5, 7)) == (7, 5, 3)


def test_level_sizes_of_any_nest():
    fine, coarse = torch.zeros(1, 2, 6, 8), torch.zeros(1, 2, 3, 4)
    assert level_sizes_of(fine) == [(8, 6)]
    assert level_sizes_of([fine, coarse]) == [(8, 6), (4, 3)]
    assert level_sizes_of([{"maps": fine, "offsets": coarse}, (coarse, fine)]) == [(8, 6), (4, 3)]
    assert level_sizes_of({"maps": fine}) == [(8, 6)]


def test_map_tensors_keeps_the_nest():
    nest = {"a": [torch.ones(1), (torch.ones(2), "text")], "b": None}
    doubled = map_tensors(nest, lambda tensor: tensor * 2)
    assert doubled["a"][0].tolist() == [2]
    assert doubled["a"][1][0].tolist() == [2, 2]
    assert isinstance(doubled["a"][1], tuple)
    assert (doubled["a"][1][1], doubled["b"]) == ("text", None)


def test_level_sizes_of_what_has_a_place_in_the_image():
    maps, numbers = torch.zeros(1, 2, 6, 8), torch.zeros(1, 3)
    assert level_sizes_of({"maps": maps, "classes": numbers}, 2) == [(8, 6)]
    assert level_sizes_of([numbers, maps], 2) == [(8, 6)]
    assert level_sizes_of(numbers, 2) == []
    assert level_sizes_of(torch.zeros(1, 2, 5), 2) == []


def test_levels():
    fine, coarse = torch.zeros(1), torch.ones(1)
    assert levels(fine) == [fine]
    assert levels([fine, coarse]) == [fine, coarse]
