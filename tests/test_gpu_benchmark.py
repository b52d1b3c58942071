"""`benchmarks/gpu.py` runs without a GPU, on small images."""

import pytest

from benchmarks import gpu

OTHERS = [name for name in gpu.MEASURES if name not in ("all", "with torch.compile")]


def run(monkeypatch, capsys, *names):
    only = [word for name in names for word in ("--only", name)]
    monkeypatch.setattr("sys.argv", ["gpu", "--steps", "1", *only])
    gpu.main()
    printed = capsys.readouterr().out
    assert "128×128, batches of 12" in printed and "32×32×32, batches of 2" in printed
    assert all(printed.count(f"{name} ") >= 2 for name in names)


def test_a_table_of_each_size(monkeypatch, capsys):
    run(monkeypatch, capsys, "all")


@pytest.mark.slow
def test_each_measure_is_switched_off(monkeypatch, capsys):
    run(monkeypatch, capsys, *OTHERS)
