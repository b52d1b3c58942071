"""Functions of symmetric matrices, against LAPACK in float64."""

import pytest
import torch
from hypothesis import given, settings, strategies as st
from lannunet_landmarks.maps.symmetric import eigen, exponential

NUMBERS = st.floats(-9, 9, width=32)


def symmetric(numbers, dimensions):
    matrix = torch.tensor(numbers, dtype=torch.float64)[: dimensions**2].reshape(dimensions, dimensions)
    return (matrix + matrix.mT) / 2


@pytest.mark.parametrize("dimensions", [2, 3])
@settings(max_examples=100, deadline=None)
@given(numbers=st.lists(NUMBERS, min_size=9, max_size=9))
def test_eigenvalues_and_axes(dimensions, numbers):
    matrix = symmetric(numbers, dimensions)
    values, axes = eigen(matrix.float())
    expected = torch.linalg.eigvalsh(matrix)
    scale = max(float(matrix.abs().max()), 1e-3)
    assert torch.allclose(values.double().sort().values, expected, atol=1e-5 * scale)
    assert torch.allclose((axes.mT @ axes).double(), torch.eye(dimensions).double(), atol=1e-5)
    assert torch.allclose(((axes * values[None]) @ axes.mT).double(), matrix, atol=1e-5 * scale)


@pytest.mark.parametrize("dimensions", [2, 3])
def test_of_round_and_of_many_matrices(dimensions):
    many = torch.stack([2 * torch.eye(dimensions), torch.zeros(dimensions, dimensions)])[None]
    values, axes = eigen(many)
    assert values.shape == (1, 2, dimensions)
    assert torch.equal(values[0, 0], torch.full((dimensions,), 2.0))
    assert torch.equal(axes[0, 1], torch.eye(dimensions))


@pytest.mark.parametrize("dimensions", [2, 3])
@settings(max_examples=50, deadline=None)
@given(numbers=st.lists(st.floats(-3, 3, width=32), min_size=9, max_size=9))
def test_the_exponential(dimensions, numbers):
    matrix = symmetric(numbers, dimensions)
    expected = torch.linalg.matrix_exp(matrix)
    assert torch.allclose(exponential(matrix.float()).double(), expected, atol=3e-5 * float(expected.norm()))
    assert torch.allclose(exponential(matrix), expected, atol=1e-9 * float(expected.norm()))


def test_its_gradient():
    matrix = torch.tensor([[0.5, 0.2], [0.2, 1.5]], dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(exponential, matrix)
