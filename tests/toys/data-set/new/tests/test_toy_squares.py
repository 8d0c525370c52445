from __future__ import annotations

from slimnet.data import load_data
from slimnet.data.about import about


def test_the_brighter_half_is_the_class() -> None:
    data = load_data("toy-squares")
    assert (len(data.train), len(data.val), len(data.test)) == (144, 16, 40)
    left, right = data.test.images[..., :4].float().mean((1, 2, 3)), data.test.images[..., 4:].float().mean((1, 2, 3))
    assert ((right > left).long() == data.test.labels).all()
    assert about("toy-squares").terms
