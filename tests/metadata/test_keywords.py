from __future__ import annotations

import unicodedata
from collections.abc import Iterable
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from phototag.core import Tag
from phototag.metadata.keywords import (
    LISTS,
    Keywords,
    Memory,
    Plan,
    Provenance,
    key,
    noted_names,
    present_keys,
    same,
    wanted_keywords,
    without_ours,
)

ANIMAL = Tag("animal", 0.99, ("animal",), None)
BIRD = Tag("bird", 0.97, ("animal", "bird"), None)
TOUCAN = Tag("toucan", 0.93, ("animal", "bird", "toucan"), "n01843383")
PIZZA = Tag("pizza", 0.8, ("food", "pizza"), None)
TAGS = (TOUCAN, BIRD, ANIMAL)
DECOMPOSED, COMPOSED = "cafe\u0301", "caf\u00e9"


def plan(
    found: Keywords, *tags: Tag, packet: bool = True, iptc: bool = False, xp: bool = False, forget: bool = False
) -> Plan:
    return wanted_keywords(
        found,
        tags,
        model="toy",
        version="1.0",
        date="2025-06-01T12:00:00+00:00",
        memory=Memory(forget=forget),
        has_packet=packet,
        has_iptc=iptc or found.iptc is not None,
        can_hold_xp=xp,
    )


def wanted(found: Keywords, *tags: Tag, xp: bool = False) -> Keywords:
    return plan(found, *tags, xp=xp).keywords


def names(keywords: Keywords) -> list[str]:
    return [name for name, _ in noted_names(keywords.provenance)] if keywords.provenance else []


def test_keywords_are_one_whatever_their_case_and_composition() -> None:
    assert same("Straße", "STRASSE")
    assert same(DECOMPOSED, COMPOSED.upper())
    assert same(" toucan\n", "Toucan")
    assert not same("toucan", "toucans")


def test_a_photo_without_keywords_gets_the_lists_that_applications_read() -> None:
    result = plan(Keywords(), *TAGS, packet=False, xp=True)
    assert result == Plan(
        Keywords(
            subject=("toucan", "bird", "animal"),
            hierarchical=("animal|bird|toucan",),
            xp=("toucan", "bird", "animal"),
            provenance=Provenance(
                (("toucan", 0.93), ("bird", 0.97), ("animal", 0.99)),
                ("subject", "hierarchical", "xp", "packet"),
                "toy",
                "1.0",
                "2025-06-01T12:00:00+00:00",
            ),
        ),
        (),
    )
    assert without_ours(result.keywords) == Keywords()


def test_a_list_that_is_created_begins_with_the_human_keywords() -> None:
    result = wanted(Keywords(iptc=("Smith, John", "beach")), TOUCAN, xp=True)
    assert result.subject == result.iptc == result.xp == ("Smith, John", "beach", "toucan")
    assert result.hierarchical is None  # Immich reads IPTC here
    result = wanted(Keywords(subject=("beach", "Beach")), TOUCAN)
    assert result.subject == ("beach", "Beach", "toucan")
    assert result.hierarchical == ("beach", "animal|bird|toucan")


def test_lists_with_levels_are_seeded_with_paths_and_seed_names() -> None:
    found = Keywords(subject=("Paris", "beach"), last_keyword=("places/Paris", "places/Rome"))
    result = wanted(found, TOUCAN, xp=True)
    assert result.hierarchical == ("places|Paris", "places|Rome", "beach", "animal|bird|toucan")
    assert result.last_keyword == ("places/Paris", "places/Rome", "animal/bird/toucan")
    assert result.xp == ("Paris", "beach", "Rome", "toucan")
    assert without_ours(result) == found


def test_a_path_that_the_user_made_of_names_that_become_phototags_stays() -> None:
    once = wanted(Keywords(subject=("beach",)), replace(BIRD, path=("bird",)))
    edited = replace(once, hierarchical=(*(once.hierarchical or ()), "animal|bird"))
    twice = wanted(edited, BIRD, ANIMAL)
    assert names(twice) == ["animal"]
    assert "animal|bird" in (twice.hierarchical or ())
    assert "animal|bird" in (without_ours(twice).hierarchical or ())


@pytest.mark.parametrize("name", ["tags_list", "last_keyword", "iptc"])
def test_some_lists_are_only_appended_to(name: str) -> None:
    assert getattr(wanted(Keywords(subject=("beach",)), TOUCAN), name) is None
    found = Keywords(**{name: ("beach",)})  # type: ignore[arg-type]
    entry = "toucan" if name == "iptc" else "animal/bird/toucan"
    assert getattr(wanted(found, TOUCAN), name) == ("beach", entry)


def test_iptc_without_keywords_gets_them_where_there_is_iptc() -> None:
    result = plan(Keywords(subject=("beach",)), TOUCAN, iptc=True).keywords
    assert result.iptc == ("beach", "toucan")
    assert result.hierarchical is None
    assert without_ours(result) == Keywords(subject=("beach",))


@pytest.mark.parametrize("human", ["toucan", "Toucan", " TOUCAN "])
@pytest.mark.parametrize("name", LISTS)
def test_a_keyword_that_a_person_wrote_is_neither_added_nor_claimed(name: str, human: str) -> None:
    found = Keywords(**{name: (human, "beach")})  # type: ignore[arg-type]
    assert wanted(found, TOUCAN) == found
    result = wanted(found, TOUCAN, BIRD)
    assert names(result) == ["bird"]
    assert sum(key(entry) == "toucan" for entry in getattr(result, name)) == 1
    assert getattr(result, name)[:2] == (human, "beach")
    assert without_ours(result) == found


def test_the_last_level_of_a_persons_path_is_a_persons() -> None:
    found = Keywords(hierarchical=("zoo|toucan",))
    assert wanted(found, TOUCAN) == found
    assert wanted(found, BIRD, TOUCAN).hierarchical == ("zoo|toucan", "animal|bird")


def test_the_same_run_twice_changes_nothing() -> None:
    for found in (Keywords(), Keywords(subject=("beach",), iptc=("Smith, John",))):
        once = wanted(found, *TAGS, xp=True)
        surer = [replace(tag, confidence=1.0) for tag in TAGS]
        again = wanted_keywords(
            once,
            surer,
            model="other",
            version="2",
            date="x",
            has_packet=True,
            has_iptc=found.iptc is not None,
            can_hold_xp=True,
        )
        assert again.keywords is once


def test_tagging_anew_replaces_only_ours() -> None:
    found = Keywords(subject=("beach",), tags_list=("places/beach",))
    once = wanted(found, *TAGS)
    # A person adds keywords afterwards, one of them below a level that bears the name of a tag.
    edited = replace(
        once,
        subject=("sunset", *(once.subject or ())),
        tags_list=(*(once.tags_list or ()), "animal/parrot", "mine/bird"),
    )
    twice = wanted(edited, PIZZA, ANIMAL)
    assert twice.subject == ("sunset", "beach", "animal", "pizza")
    assert twice.tags_list == ("places/beach", "animal/parrot", "mine/bird", "food/pizza", "animal")
    assert names(twice) == ["pizza", "animal"]
    assert without_ours(twice) == Keywords(
        subject=("sunset", "beach"), tags_list=("places/beach", "animal/parrot", "mine/bird")
    )


def test_what_another_program_recased_is_a_persons() -> None:
    once = wanted(Keywords(), TOUCAN, BIRD)
    edited = replace(once, subject=("Toucan", "bird"))
    assert wanted(edited, TOUCAN, BIRD).subject == ("Toucan", "bird")
    assert without_ours(edited).subject == ("Toucan",)


def test_what_another_program_decomposed_is_still_ours() -> None:
    tag = Tag(COMPOSED, 0.9, (COMPOSED,), None)
    edited = replace(wanted(Keywords(), tag), subject=(DECOMPOSED,))
    assert wanted(edited, tag) is edited
    assert without_ours(edited) == Keywords()


def test_a_path_with_a_level_that_is_no_tag_is_known_again() -> None:
    once = wanted(Keywords(), TOUCAN)
    assert once.provenance is not None
    assert once.provenance.tags == (("toucan", 0.93), ("|animal|bird|toucan", 0.93))
    assert noted_names(once.provenance) == (("toucan", 0.93),)
    assert wanted(once, TOUCAN) is once
    assert without_ours(once) == Keywords()
    edited = replace(once, hierarchical=("zoo|toucan", "animal|bird|toucan"))
    assert without_ours(edited) == Keywords(hierarchical=("zoo|toucan",))


def test_a_deeper_tag_takes_the_place_of_its_path_above() -> None:
    once = wanted(Keywords(), BIRD, ANIMAL)
    assert once.hierarchical == ("animal|bird",)
    assert wanted(once, *TAGS).hierarchical == ("animal|bird|toucan",)


def test_a_created_list_into_which_a_person_put_a_keyword_stays() -> None:
    once = wanted(Keywords(iptc=("beach",)), TOUCAN, xp=True)
    edited = replace(once, subject=("beach", "toucan", "sunset"))
    assert without_ours(edited) == Keywords(subject=("beach", "sunset"), iptc=("beach",))


def test_without_tags_only_ours_go() -> None:
    found = Keywords(subject=("beach",))
    assert wanted(found) is found
    assert wanted(wanted(found, *TAGS, xp=True)) == found


def test_what_was_created_first_stays_noted() -> None:
    once = plan(Keywords(), TOUCAN, packet=False, xp=True).keywords
    twice = plan(replace(once, xp=None), TOUCAN, PIZZA, packet=True).keywords
    assert twice.provenance is not None
    assert twice.provenance.created == ("subject", "hierarchical", "packet")


@pytest.mark.parametrize(
    ("name", "lists"),
    [
        ("a|b", {"hierarchical"}),
        ("a/b", {"tags_list", "last_keyword"}),
        ("a;b", {"xp"}),
        ("ö" * 33, {"iptc"}),
        ("a&b<c", set()),
        ("日本😀", set()),
    ],
)
def test_a_list_that_cannot_hold_a_name_goes_without_it(name: str, lists: set[str]) -> None:
    found = Keywords((), (), (), (), (), ())
    result = plan(found, Tag(name, 0.9, ("thing", name), None))
    assert set(result.left_out) == {(where, name) for where in lists}
    assert {where for where in LISTS if not getattr(result.keywords, where)} == lists
    assert plan(result.keywords, Tag(name, 0.8, ("thing", name), None)) == result
    assert without_ours(result.keywords) == found


@pytest.mark.parametrize("name", ["", " ", "a\nb", "\x7f", "\ud800", "\ufffe", " a", "|a"])
def test_a_name_that_cannot_be_written_is_written_nowhere(name: str) -> None:
    found = Keywords(subject=("beach",))
    assert plan(found, Tag(name, 0.9, (name,), None)) == Plan(found, (("", name),))


def test_human_keywords_that_a_created_list_cannot_hold_are_reported() -> None:
    result = plan(Keywords(subject=("x;y", "a|b", "beach"), tags_list=None), TOUCAN, xp=True)
    assert result.keywords.xp == ("a|b", "beach", "toucan")
    assert result.keywords.hierarchical == ("x;y", "beach", "animal|bird|toucan")
    assert result.left_out == (("hierarchical", "a|b"), ("xp", "x;y"))


WORDS = (
    "animal",
    "bird",
    "Bird",
    "toucan",
    "TOUCAN",
    "places",
    DECOMPOSED,
    COMPOSED,
    "x;y",
    "é" * 33,
    " bird",
    "",
    "\x01",
)
ODD = ("x;y", "é" * 33, " bird", "", "\x01")
PARTS = st.sampled_from((*WORDS, *ODD, "a|b", "a/b", "|toucan"))
entry = st.lists(st.sampled_from((*WORDS, *ODD)), min_size=1, max_size=3)
flat = st.none() | st.lists(PARTS, max_size=4).map(tuple)
found_lists = st.builds(
    Keywords,
    subject=flat,
    hierarchical=st.none() | st.lists(entry.map("|".join), max_size=3).map(tuple),
    tags_list=st.none() | st.lists(entry.map("/".join), max_size=3).map(tuple),
    last_keyword=st.none() | st.lists(entry.map("/".join), max_size=3).map(tuple),
    iptc=flat,
    xp=flat,
)
tag_lists = st.lists(
    st.builds(
        lambda above, name, confidence: Tag(name, confidence, (*above, name), None),
        st.lists(PARTS, max_size=2),
        PARTS,
        st.sampled_from((0.5, 1.0)),
    ),
    max_size=4,
)
flags = st.fixed_dictionaries({"packet": st.booleans(), "iptc": st.booleans(), "xp": st.booleans()})
many = settings(max_examples=300)


@pytest.mark.slow
@many
@given(found_lists, tag_lists, flags)
def test_untagging_gives_back_what_was_found(found: Keywords, tags: list[Tag], given_flags: dict[str, bool]) -> None:
    after = plan(found, *tags, **given_flags).keywords
    assert without_ours(after) == found
    assert plan(after, **given_flags).keywords == found


@pytest.mark.slow
@many
@given(found_lists, tag_lists, flags)
def test_human_keywords_stand_where_they_stood(found: Keywords, tags: list[Tag], given_flags: dict[str, bool]) -> None:
    after = plan(found, *tags, **given_flags).keywords
    humans = {key(word) for word in human_names(found)}
    for name in LISTS:
        before = getattr(found, name)
        if before is not None:
            assert getattr(after, name)[: len(before)] == before
    assert not humans & {key(name) for name in names(after)}


@pytest.mark.slow
@many
@given(found_lists, tag_lists, flags)
def test_a_second_run_finds_nothing_to_do(found: Keywords, tags: list[Tag], given_flags: dict[str, bool]) -> None:
    first = plan(found, *tags, **given_flags)
    again = plan(first.keywords, *tags, **{**given_flags, "packet": True})
    assert again.keywords == first.keywords


@pytest.mark.slow
@many
@given(found_lists, tag_lists, tag_lists, flags, st.sampled_from(LISTS), entry)
def test_tagging_anew_is_as_if_for_the_first_time(
    found: Keywords, tags: list[Tag], others: list[Tag], given_flags: dict[str, bool], name: str, more: list[str]
) -> None:
    once = plan(found, *tags, **given_flags).keywords
    twice = plan(once, *others, **given_flags).keywords
    assert without_ours(twice) == found
    direct = plan(found, *others, **given_flags).keywords
    assert composed(names(twice)) == composed(names(direct))
    for where in LISTS:
        assert composed(getattr(twice, where) or ()) == composed(getattr(direct, where) or ())
    # What a person adds between the runs survives them, unless it is by name what phototag wrote.
    separator = {"hierarchical": "|", "tags_list": "/", "last_keyword": "/"}.get(name)
    added = separator.join(more) if separator else more[-1]
    more_words: dict[str, Any] = {name: (*(getattr(once, name) or ()), added)}
    edited = replace(once, **more_words)
    stays = getattr(without_ours(edited), name) or ()
    if stays.count(added) > (getattr(without_ours(once), name) or ()).count(added):
        after = plan(edited, *others, **given_flags).keywords
        assert added in getattr(after, name)
        assert added in getattr(without_ours(after), name)


@pytest.mark.slow
@many
@given(found_lists, tag_lists, tag_lists, flags, st.data())
def test_what_a_person_removes_stays_out(
    found: Keywords, tags: list[Tag], others: list[Tag], given_flags: dict[str, bool], data: st.DataObject
) -> None:
    once = plan(found, *tags, **given_flags).keywords
    written = names(once)
    gone = set(map(key, data.draw(st.lists(st.sampled_from(written))))) if written else set()

    def is_gone(name: str, entry: str) -> bool:
        separator = {"hierarchical": "|", "tags_list": "/", "last_keyword": "/"}.get(name)
        return not gone.isdisjoint(map(key, entry.split(separator) if separator else [entry]))

    lists = {name: getattr(once, name) for name in LISTS if getattr(once, name) is not None}
    left: dict[str, Any] = {
        name: tuple(entry for entry in entries if not is_gone(name, entry)) for name, entries in lists.items()
    }
    edited = replace(once, **left)
    after = plan(edited, *others, **given_flags)
    assert {key(name) for name in after.rejected} == gone - present_keys(edited)
    assert gone.isdisjoint(present_keys(after.keywords))
    assert plan(after.keywords, *others, **given_flags).keywords == after.keywords
    assert without_ours(after.keywords) == without_ours(edited)
    assert plan(edited, *others, forget=True, **given_flags).rejected == ()
    stays_known = plan(plan(after.keywords, **given_flags).keywords, *others, **given_flags)
    assert set(map(key, stays_known.rejected)) == gone


def composed(words: Iterable[str]) -> list[str]:
    return sorted(unicodedata.normalize("NFC", word) for word in words)


def human_names(found: Keywords) -> list[str]:
    separators = {"hierarchical": "|", "tags_list": "/", "last_keyword": "/"}
    return [
        entry.split(separators[name])[-1] if name in separators else entry
        for name in LISTS
        for entry in getattr(found, name) or ()
    ]
