"""The texts of handles: what is forgiven, and that every slip of one character or two neighbours is recognized."""

import pytest

from mcp_sessions.handles import text
from mcp_sessions.handles.text import DIGITS, SECRET, Form, Text

FORMS = pytest.mark.parametrize("form", [DIGITS, SECRET], ids=["digits", "secret"])
#: Of each form; every state of the check occurs in them at every place.
SAMPLES = 40


@FORMS
def test_what_is_minted_is_read(form: Form) -> None:
    for _ in range(SAMPLES):
        minted = text.mint("basket", form)
        assert text.read("basket", minted) == Text(minted, whole=True, valid=True, secret=form is SECRET)


def test_the_forms_look_like_that() -> None:
    kind, *groups = text.mint("basket", DIGITS).split("-")
    assert (kind, [len(group) for group in groups]) == ("basket", [3, 3, 3])
    assert "".join(groups).isdecimal()
    kind, *groups = text.mint("basket", SECRET).split("-")
    assert (kind, [len(group) for group in groups]) == ("basket", [3] * 9)
    assert len(SECRET.alphabet) == 32
    assert 5 * SECRET.length >= 128


def test_texts_are_random() -> None:
    assert len({text.mint("basket", SECRET) for _ in range(200)}) == 200
    assert len({text.mint("basket", DIGITS)[:-1] for _ in range(200)}) > 190


@FORMS
def test_every_wrong_character_is_recognized(form: Form) -> None:
    for _ in range(SAMPLES):
        characters = form.mint()
        for place, right in enumerate(characters):
            for wrong in form.alphabet:
                changed = characters[:place] + wrong + characters[place + 1 :]
                assert form.checks(changed) == (wrong == right)


@FORMS
def test_every_swap_of_neighbours_is_recognized(form: Form) -> None:
    for _ in range(SAMPLES):
        characters = form.mint()
        for place in range(len(characters) - 1):
            first, second = characters[place], characters[place + 1]
            swapped = characters[:place] + second + first + characters[place + 2 :]
            assert form.checks(swapped) == (first == second)


def test_the_check_of_digits_holds_for_every_state() -> None:
    """Of all texts with these three last digits: each is followed by exactly one check digit."""
    for number in range(1000):
        body = f"00000{number:03}"
        assert sum(DIGITS.checks(body + check) for check in DIGITS.alphabet) == 1


@pytest.mark.parametrize(
    "minted",
    [
        "basket-012-345-671",
        "basket-012-345-678-9ab-cde-fgh-jkm-npq-rs1",
        "basket-zyx-wvt-srq-pnm-kjh-gfe-dcb-a98-76p",
    ],
)
def test_a_text_of_an_earlier_release_stays_valid(minted: str) -> None:
    assert text.read("basket", minted) == Text(minted, whole=True, valid=True, secret=len(minted) > 30)


def test_the_check_of_digits_is_damms() -> None:
    assert DIGITS.checks("5724")  # the example of his thesis
    assert [DIGITS.checks(f"572{check}") for check in range(10)].count(True) == 1


@FORMS
def test_a_text_that_is_too_short_or_too_long_is_not_whole(form: Form) -> None:
    minted = text.mint("basket", form)
    for wrong in (minted[:-1], minted[:-4], minted + "0", minted + "-000", "0" + minted, "basket-", "", "-"):
        assert not text.read("basket", wrong).whole, wrong
    assert text.read("basket", "") == Text("", whole=False, valid=False, secret=False)
    assert text.read("basket", minted.ljust(text.MAX_CHARS)).whole
    assert not text.read("basket", minted.ljust(text.MAX_CHARS + 1)).whole


@FORMS
@pytest.mark.parametrize("kind", ["basket", "business-trip", "a"])
def test_case_spaces_hyphens_and_a_missing_kind_are_forgiven(form: Form, kind: str) -> None:
    minted = text.mint(kind, form)
    characters = minted.removeprefix(kind + "-").replace("-", "")
    for written in (
        minted.upper(),
        f"  {minted}\n",
        minted.replace("-", " "),
        minted.replace("-", ""),
        minted.replace("-", "\N{NON-BREAKING HYPHEN}"),
        minted.replace("-", "\N{EN DASH}"),
        minted.replace("-", " \N{EM DASH} "),
        minted.replace("-", "\N{MINUS SIGN}"),
        minted.replace("-", "_"),
        minted.replace("-", "-\N{ZERO WIDTH SPACE}"),
        minted.replace("-", "\N{NO-BREAK SPACE}"),
        "".join(chr(ord(each) + 0xFEE0) for each in minted),  # full-width forms
        characters,
        minted.removeprefix(kind + "-"),
        characters.replace("0", "O").replace("1", "l"),
    ):
        assert text.read(kind, written) == Text(minted, whole=True, valid=True, secret=form is SECRET), (
            written
        )


def test_another_kind_is_not_whole() -> None:
    assert not text.read("basket", text.mint("trip", DIGITS)).whole


@pytest.mark.parametrize("kind", ["basket", "business-trip", "a-b-c"])
def test_kinds(kind: str) -> None:
    assert text.KIND.match(kind)


@pytest.mark.parametrize("kind", ["", "Basket", "b1", "-a", "a-", "a--b", "a b", "a_b", "ä", "a\n"])
def test_what_is_no_kind(kind: str) -> None:
    assert not text.KIND.match(kind)
