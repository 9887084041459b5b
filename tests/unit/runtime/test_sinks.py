"""What results carry beside their numbers."""

from likewise.runtime.sinks import Times


def test_the_mean_of_several_times() -> None:
    assert Times.mean([Times(1, 2, 3), Times(3, 4, 7)]) == Times(2, 3, 5)
    assert Times.mean([]) == Times()
