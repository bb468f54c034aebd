"""The line about a promotion that is under way."""

from trough.load.promotion import PromotionText


def test_the_rest_follows_from_the_transfer_alone():
    """What the worker did before it takes no part in the guess."""
    now = [100.0]
    text = PromotionText("s", lambda: now[0])
    assert text.at(0, 0) == "segment s is being promoted"
    now[0] = 130.0
    assert text.at(0, 0) == "segment s is being promoted, 30.0 s"
    assert text.at(100_000, 1_000_000) == (
        "segment s is being promoted, 10% of 1,000,000 bytes, 30.0 s"
    )
    now[0] = 132.0
    assert text.at(500_000, 1_000_000) == (
        "segment s is being promoted, 50% of 1,000,000 bytes, 32.0 s, about 2.5 s left"
    )
    assert text.at(1_000_000, 1_000_000) == (
        "segment s is being promoted, 100% of 1,000,000 bytes, 32.0 s"
    )
