from convcast.text import list_some, markdown, printable


def test_control_characters_are_escaped_and_letters_are_not():
    assert printable("Straße \x1b[2J\n\u202e") == "Straße \\x1b[2J\\n\\u202e"


def test_markup_is_escaped_in_markdown():
    assert markdown("a|b *c* <d>\x07") == r"a\|b \*c\* \<d\>\\x07"


def test_a_long_list_is_shortened():
    assert list_some(["a", "b", "c"], 3) == "a, b, c"
    assert list_some(["a", "b", "c", "d"], 3) == "a, b, c and 1 more"
    assert list_some([], 3) == ""
