"""What a change costs, counted in texts that the model is given."""

from __future__ import annotations

from tests.acceptance.rigs import Rig
from tests.binding_kit import Fake


def test_a_column_that_no_template_names_costs_nothing(rig: Rig) -> None:
    rig.app.write({1: "one", 2: "two"})
    rig.drain()
    rig.app.touch()
    assert rig.drain().texts == []
    rig.assert_right()


def test_one_word_in_a_long_document(rig: Rig) -> None:
    passages = [f"passage {number} of a long text" for number in range(100)]
    rig.app.write({1: "|".join(passages)})
    assert len(rig.drain().texts) == 100
    passages[50] = "passage fifty, edited"
    rig.app.write({1: "|".join(passages)})
    assert rig.drain().texts == ["passage fifty, edited"]
    rig.assert_right()


def test_equal_rows_are_embedded_once(rig: Rig) -> None:
    rig.app.write({number: "the same" for number in range(1, 30)})
    assert rig.drain().texts == ["the same"]
    rig.app.write({number: "the same" for number in range(30, 60)})
    assert rig.drain().texts == []
    rig.assert_right()


def test_a_row_that_was_changed_often_is_embedded_once(rig: Rig) -> None:
    """Its old entries would each be embedded, and thrown away as there is a newer one."""
    rig.drain()
    for turn in range(40):
        rig.app.write({1: f"one {turn}", 2: f"two {turn}"})
    embedder = Fake()
    worker = rig.worker(embedder, batch_rows=4, most_rows=4)
    worker.drain()
    worker.close()
    assert sorted(embedder.texts) == ["one 39", "two 39"]
    rig.assert_right()


def test_texts_that_change_places(rig: Rig) -> None:
    rig.app.write({1: "one", 2: "two"})
    rig.drain()
    rig.app.write({1: "two", 2: "one"})
    assert rig.drain().texts == []
    rig.assert_right()


def test_writing_what_is_there_costs_nothing(rig: Rig) -> None:
    rig.app.write({1: "one", 2: "two"})
    rig.drain()
    rig.app.write({1: "one"})
    rig.app.undo({2: "three"})
    assert rig.drain().texts == []
    rig.assert_right()


def test_a_key_that_moves_costs_nothing(rig: Rig) -> None:
    rig.app.write({1: "one"})
    rig.drain()
    rig.app.move(1, 7)
    assert rig.drain().texts == []
    rig.assert_right()
