"""The plan is pure: every key decided once, by what is there and not by what the log said."""

from hypothesis import given
from hypothesis import strategies as st

from likewise.base.types import Change, Delete, Keep, Row
from likewise.binding.plan import newest, plan

KEYS = st.integers(0, 6).map(lambda i: (i,))
TEXTS = st.sampled_from([b"a" * 32, b"b" * 32])


@given(st.lists(KEYS, max_size=20), st.dictionaries(KEYS, TEXTS), st.dictionaries(KEYS, TEXTS))
def test_each_key_is_decided_once(keys, there, stored) -> None:
    changes = [Change(seq, key, "delete", 0.0) for seq, key in enumerate(keys, start=1)]
    seqs = newest(changes)
    assert list(seqs) == list(dict.fromkeys(keys))
    assert all(seqs[key] == 1 + max(i for i, k in enumerate(keys) if k == key) for key in keys)
    rows = {key: Row(key, "t", {}, fingerprint) for key, fingerprint in there.items()}
    made = plan(seqs, rows, stored)
    embed = {row.key: seq for row, seq in made.embed}
    ready = {action.key: action for action in made.ready}
    assert embed.keys() | ready.keys() == set(keys)
    assert not embed.keys() & ready.keys()
    for key, seq in seqs.items():
        if key not in there:
            assert ready[key] == Delete(key, seq)
        elif stored.get(key) == there[key]:
            assert ready[key] == Keep(key, seq, there[key])
        else:
            assert embed[key] == seq
    assert made.cursor == len(keys)
