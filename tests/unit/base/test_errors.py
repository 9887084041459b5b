"""The error tree: every class documented, coded once, and drawn in the file's first lines."""

import likewise.base.errors as errors
from likewise.base.errors import LikewiseError


def tree(cls: type[LikewiseError]) -> list[type[LikewiseError]]:
    found = [cls]
    for child in cls.__subclasses__():
        if child.__module__ == errors.__name__:
            found += tree(child)
    return found


def test_codes_are_unique_and_classes_are_drawn() -> None:
    classes = tree(LikewiseError)
    assert len({cls.code for cls in classes}) == len(classes) > 20
    for cls in classes:
        assert cls.__doc__
        assert cls.__name__ in (errors.__doc__ or "")


def test_an_error_carries_its_field() -> None:
    assert errors.InputError("no", param="input").param == "input"
    assert str(errors.InputError("no")) == "no"
