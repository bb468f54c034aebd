"""What a bounded mapping keeps, and what it removes."""

from hypothesis import given
from hypothesis import strategies as st

from trough.util.bounded_lru import BoundedLru


def test_what_was_used_least_recently_goes():
    """Reading counts as use."""
    kept = BoundedLru(2)
    kept.put("a", 1)
    kept.put("b", 2)
    assert kept.get("a") == 1
    kept.put("c", 3)
    assert list(kept) == ["a", "c"]
    assert kept.get("b") is None


def test_a_value_that_never_fits_is_not_kept():
    """Nothing else is removed for it, but the value it replaces."""
    kept = BoundedLru(10, len)
    kept.put("a", "xxxx")
    kept.put("b", "xxxx")
    kept.put("a", "x" * 11)
    assert list(kept) == ["b"]
    assert kept.size == 4


@given(
    st.sampled_from([None, len]),
    st.lists(st.tuples(st.sampled_from("gpd"), st.sampled_from("abcdef"), st.text("x"))),
)
def test_the_bound_holds(weight, steps):
    """The size is the sum of the weights at any time; the latest value is always found."""
    kept = BoundedLru(7, weight)
    weigh = weight or (lambda value: 1)
    present = {}
    for step, key, value in steps:
        if step == "p":
            kept.put(key, value)
            present[key] = value
            assert kept.get(key) == (value if weigh(value) <= 7 else None)
        elif step == "d":
            kept.pop(key)
            present.pop(key, None)
            assert kept.get(key) is None
        else:
            assert kept.get(key) in (None, present.get(key))
        assert kept.size == sum(weigh(present[each]) for each in kept)
        assert kept.size <= 7
