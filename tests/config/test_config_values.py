"""Text to value and back."""

from __future__ import annotations

from dataclasses import replace

import pytest
from ddfpipe.config import SECTIONS, Config, all_options, dump, load_config
from ddfpipe.config.option import Option, option, options_of
from ddfpipe.config.values import format_value, parse
from ddfpipe.errors import ConfigError
from hypothesis import given, settings
from hypothesis import strategies as st


def values(spec: Option) -> st.SearchStrategy:
    """Values that an option may have."""
    kind = spec.element or spec.kind
    low = spec.low if spec.low is not None else spec.above
    bounds = {"min_value": low, "max_value": spec.high}
    if spec.choices:
        base = st.sampled_from(spec.choices)
    elif kind == "bool":
        base = st.booleans()
    elif kind in ("int", "label"):
        base = st.integers(low if low is None else int(low), spec.high and int(spec.high))
        if kind == "label":
            base = base | texts(usable_in_list)
    elif kind == "float":
        base = st.floats(**bounds, exclude_min=spec.above is not None, allow_nan=False,
                         allow_infinity=False)
    else:
        base = texts(usable_in_list if spec.element else usable)
    if spec.kind == "list":
        base = base | st.none() if spec.element_nullable else base
        lists = st.lists(base, min_size=spec.min_length, max_size=spec.min_length + 3,
                         unique=spec.unique)
        base = lists.map(tuple)
    return base | st.none() if spec.nullable else base


def texts(good) -> st.SearchStrategy:
    """Any text for which `good` holds."""
    return st.text(min_size=1).map(lambda text: text if good(text) else f"x{len(text)}.fits")


def usable(text: str) -> bool:
    """Whether a text can stand in a file."""
    try:
        return parse(text, Option("str", "x")) == text
    except ValueError:
        return False


def usable_in_list(text: str) -> bool:
    return text.strip() != "" and text != "None"


@pytest.mark.parametrize("title, name, spec", list(all_options()))
def test_text_of_every_option_parses_back(title, name, spec):
    @settings(max_examples=25, deadline=None)
    @given(values(spec))
    def check(value):
        assert parse(format_value(value), spec) == value

    check()


@settings(max_examples=40, deadline=None)
@given(st.data())
def test_dump_reproduces_a_configuration(tmp_path_factory, data):
    sections = {}
    for title, cls in SECTIONS.items():
        specs = options_of(cls)
        drawn = data.draw(st.fixed_dictionaries(
            {}, optional={name: values(spec) for name, spec in specs.items()}
        ))
        sections[title] = cls(**drawn)
    cfg = Config(**sections)
    path = tmp_path_factory.mktemp("dump") / "x.cfg"
    path.write_text(dump(cfg), encoding="utf-8")
    assert load_config([str(path)], check=False, environ={}) == cfg


FLOAT = Option("float", "x", unit="arcsec", above=0)
INT = Option("int", "x", low=1)
BOOL = Option("bool", "x")
CHOICE = Option("str", "x", choices=("alpha", "beta", "none"))
NULLABLE = Option("str", "x", choices=("alpha", "beta"), nullable=True)
INTS = Option("list", "x", element="int", low=1, min_length=2)
FLOATS = Option("list", "x", element="float", above=0, nullable=True)
TEXTS = Option("list", "x", element="str")
NORMS = Option("list", "x", element="str", choices=("BLBased", "MeanAbs", "MeanAbsAnt"),
               element_nullable=True)
BOOLS = Option("list", "x", element="bool")
LABELS = Option("list", "x", element="label")


@pytest.mark.parametrize("text, spec, expected", [
    ("5.0", INT, 5), ("1e3", INT, 1000), ("5", FLOAT, 5.0), ("1e-3", FLOAT, 1e-3),
    ("Yes", BOOL, True), ("on", BOOL, True), ("1", BOOL, True), ("OFF", BOOL, False),
    ("no", BOOL, False), ("0", BOOL, False), ("False", BOOL, False),
    ("ALPHA", CHOICE, "alpha"), ("None", CHOICE, "none"), ("none", NULLABLE, None),
    ("[1, 2]", INTS, (1, 2)), ("(1, 2.0)", INTS, (1, 2)), ("[1,\n2]", INTS, (1, 2)),
    ("[1, 2.5]", FLOATS, (1.0, 2.5)), ("None", FLOATS, None), ("[]", FLOATS, ()),
    ("['a b', \"c\"]", TEXTS, ("a b", "c")),
    ("['None', None, 'AbsAnt', 'Abs', 'blbased']", NORMS,
     (None, None, "MeanAbsAnt", "MeanAbs", "BLBased")),
    ("[True, False, 1, 0]", BOOLS, (True, False, True, False)),
    ("[1, 'x', 2.0]", LABELS, (1, "x", 2)),
])
def test_parse(text, spec, expected):
    value = parse(text, spec)
    assert value == expected and type(value) is type(expected)


@pytest.mark.parametrize("text, spec, expected", [
    ("big", INT, "'big' is not a whole number"), ("5.5", INT, "5.5 is not a whole number"),
    ("0", INT, "0 is out of range; it must be a whole number of at least 1"),
    ("None", INT, "cannot be None; it needs a whole number of at least 1"),
    ("none", FLOAT, "cannot be None; it needs a number above 0 (arcsec)"),
    ("inf", INT, "not a whole number"), ("nan", FLOAT, "not a finite number"),
    ("inf", FLOAT, "not a finite number"), ("1e999", FLOAT, "not a finite number"),
    ("0", FLOAT, "0 arcsec is out of range"),
    ("6 arcsec", FLOAT, "write the number alone, its unit is arcsec"),
    ("maybe", BOOL, "neither yes nor no"), ("2", BOOL, "neither yes nor no"),
    ("None", BOOL, "cannot be None"),
    ("alpa", CHOICE, "not one of alpha, beta, none; did you mean alpha?"),
    ("zzz", NULLABLE, "not one of alpha, beta or None"),
    ("", FLOAT, "has no value"), ("", FLOATS, "write None or leave"),
    ("5", INTS, "5 is not a list; write [5]"), ("[1]", INTS, "has 1 entries, at least 2"),
    ("[1, 2.5]", INTS, "entry 1 (counted from 0): 2.5 is not a whole number"),
    ("[1, True]", INTS, "True is not a whole number"),
    ("[1, '2']", INTS, "'2' is not a whole number"), ("[1, 0]", INTS, "0 is out of range"),
    ("[1, None]", INTS, "entry 1 (counted from 0): cannot be None"),
    ("[1, 2", INTS, "is not a list; write it like"), ("[6]*7", INTS, "is an expression"),
    ("[1e999]", FLOATS, "not a finite number"), ("[1" + "0" * 400 + "]", FLOATS, "too large"),
    ("[P,AP]", TEXTS, "texts in it need quotes; write ['P', 'AP']"),
    ("[$$/a.fits, 'b']", TEXTS, "write ['$$/a.fits', 'b']"),
    ("[1]", TEXTS, "1 is not a text"), ("['']", TEXTS, "empty text"),
    ("['BLbsed']", NORMS, "did you mean BLBased?"),
    ("[2]", BOOLS, "2 is not True or False"), ("[1.5]", LABELS, "whole number or a text"),
    ("__import__('os').getcwd()", TEXTS, "is not a list"),
    ("[open('/etc/passwd')]", TEXTS, "is not a list"),
])
def test_parse_refuses(text, spec, expected):
    with pytest.raises(ValueError) as caught:
        parse(text, spec)
    assert expected in str(caught.value)


@pytest.mark.parametrize("title, name, spec", list(all_options()))
def test_none_is_taken_or_refused(title, name, spec):
    def read():
        return load_config([f"--{title}-{name}=None"], check=False, environ={})

    if spec.nullable:
        assert getattr(getattr(read(), title), name) is None
    elif "none" in spec.choices:
        assert getattr(getattr(read(), title), name) == "none"
    else:
        with pytest.raises(ConfigError, match=rf"\[{title}\] {name}: cannot be None"):
            read()


def test_a_folder_called_none_in_small_letters_is_a_folder():
    spec = Option("str", "x", nullable=True)
    assert parse("none", spec) == "none" and parse("None", spec) is None


def test_definitions_are_checked():
    with pytest.raises(ValueError):
        Option("complex", "x")
    with pytest.raises(ValueError):
        Option("list", "x")
    with pytest.raises(ValueError):
        option("int", 1, "x", element="int")


def test_configurations_are_frozen_and_compare_without_provenance():
    cfg = Config()
    with pytest.raises(AttributeError):
        cfg.image.imsize = 5
    assert replace(cfg, provenance={"a": "b"}) == cfg
