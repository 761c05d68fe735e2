"""Any text can be kept in any database, and is the same afterwards."""

from hypothesis import example, given
from hypothesis import strategies as st

from mcp_sessions.texts import readable, restored, storable

#: With many of those characters that matter.
texts = st.text(st.sampled_from("\0\ud800\udfffD80F\ufffd") | st.characters(codec=None), max_size=30)


@given(texts)
@example("\ufffdD800")
@example("\ufffd\ud800")
@example("\ufffdFFFD0000\0")
def test_what_is_kept_is_text_for_every_database_and_can_be_restored(text: str) -> None:
    kept = storable(text)
    assert "\0" not in kept
    kept.encode()
    assert restored(kept) == text


@given(texts, texts)
def test_different_texts_stay_different(one: str, other: str) -> None:
    assert (storable(one) == storable(other)) == (one == other)


def test_ordinary_text_is_kept_as_it_is() -> None:
    for text in ("", "Claude Code", "naïve ☃ 😀", "half a caf\ufffd", "\ufffdABCD", "a\tb\n"):
        assert storable(text) == text
    assert storable("bad\ud800\0") == "bad\ufffdD800\ufffd0000"


def test_what_people_see_has_no_control_or_direction_characters() -> None:
    assert readable("naïve ☃ 😀") == "naïve ☃ 😀"
    assert readable("a\tb\u202ec\x1b\ud800") == "a\ufffdb\ufffdc\ufffd\ufffd"
