"""Hand-written documents with slots: every filling of every story gives whole text and answers that stand in it."""

import random

import pytest
from tasks import stories


def test_a_filling_repeats_what_it_chose():
    (story,) = stories.parse("=== T {person1}\n{person1} bought {=what:a boat|{animal1}} in {place1}. {person1.last} sold {what}.\n---\nWhat did {person1} sell? | item? => {what}\nWhen? => -\n", "x")
    for seed in range(50):
        made = stories.tell(random.Random(seed), story)
        assert "{" not in made.text + made.title and made.title.startswith("T ")
        name = made.title[2:]
        assert made.text.startswith(name)
        (what,) = [question.answer for question in made.questions if question.answer]
        assert f"bought {what} in" in made.text and made.text.endswith(f"{name.split()[-1]} sold {what}.")


@pytest.mark.parametrize(
    "bad", ["=== T\ntext {nothing1}\n---\nWhat? => text\n", "=== T\ntext\n---\nWhat? => other\n", "=== T\ntext\n---\nWhat is it?\n"]
)
def test_a_story_that_makes_no_sense_is_refused(bad):
    with pytest.raises(ValueError):
        stories.tell(random.Random(1), stories.parse(bad, "x")[0])


@pytest.mark.parametrize("story", stories.STORIES, ids=lambda story: story.name)
def test_every_filling_is_whole(story):
    assert story.asked and len(story.text) > 150
    for seed in range(15):
        made = stories.tell(random.Random(seed), story)
        assert not set("{}") & set(made.text + made.title + "".join(question.text for question in made.questions))
        assert len({question.text for question in made.questions}) > len(made.questions) // 2
