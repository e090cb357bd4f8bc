"""Words of the simulated platform: verbs, nouns, the written forms of a label, and all else people put in a post."""

from __future__ import annotations

VERBS: dict[str, str] = {
    "roll": "rolling", "bounce": "bouncing", "spin": "spinning", "shake": "shaking",
    "fall": "falling", "grow": "growing", "shrink": "shrinking", "orbit": "orbiting",
    "zigzag": "zigzagging", "swing": "swinging", "jump": "jumping", "slide": "sliding",
    "rise": "rising", "wobble": "wobbling", "pulse": "pulsing", "dash": "dashing",
}  # fmt: skip
"""Lemma → present participle, in the order a world takes them: source the first few, target the first twelve."""

NOUNS: tuple[str, ...] = (
    "ball", "cube", "star", "cross", "ring", "triangle", "heart", "moon",
    "diamond", "arrow", "hexagon", "drop", "gear", "leaf", "bolt", "kite",
)  # fmt: skip
"""Objects, in the order a world takes them: the source the first few, the target those that follow."""

UNRELATED_TAGS: tuple[str, ...] = (
    "love", "instagood", "fyp", "summer", "photooftheday", "fashion", "beautiful", "happy", "cute", "tbt", "like4like",
    "followme", "picoftheday", "follow", "me", "selfie", "instadaily", "friends", "repost", "nature", "girl", "fun",
    "style", "smile", "food", "instalike", "family", "travel", "fitness", "life", "beauty", "nofilter", "amazing",
    "instamood", "igers", "weekend", "sunset", "art", "music", "party", "ootd", "sky", "beach", "vsco", "dog", "cat",
    "makeup", "foodporn", "hair", "pretty", "swag", "cool", "motivation", "goals", "viral", "trending", "foryou",
    "explore", "explorepage", "comedy", "dance", "newpost", "monday", "fridayfeeling", "throwback", "winter", "coffee",
    "gym", "home", "wedding", "blessed", "2019", "no1", "été", "ilovemyjob",
)  # fmt: skip
"""Tags that name no label of any world."""

CAPTIONS: tuple[str, ...] = (
    "best day ever", "look at this", "sunday vibes", "can't stop watching", "first try!", "what do you think?", "wow",
    "again and again", "sound on", "for my friends", "old video, still good", "😂😂😂", "no words",
    "watch till the end", "día perfecto", "part 2 tomorrow", "made this today", "guess what happens", "", "link in bio",
)  # fmt: skip


def label_name(verb: str, noun: str) -> str:
    """`("roll", "ball")` → `"rolling ball"`, as written in `seed_labels.txt`."""
    return f"{VERBS[verb]} {noun}"


def label_forms(verb: str, noun: str) -> list[tuple[str, str]]:
    """The words of every hashtag that writes the label: participle or lemma with the noun, in either order."""
    return [pair for form in (VERBS[verb], verb) for pair in ((form, noun), (noun, form))]


def near_miss_forms(verb: str, noun: str) -> list[tuple[str, ...]]:
    """The words of hashtags that speak of the same thing and yet are no permutation of the label's words."""
    participle = VERBS[verb]
    return [(noun,), (participle,), (participle, "a", noun), (participle, "the", noun), ("my", noun), (noun, "lover"),
            (participle, "everyday")]  # fmt: skip


def hashtag(words: tuple[str, ...], style: str) -> str:
    """`("rolling", "ball")` → one spelling of #rollingball, without the '#'. `style` is `lower`, `camel` or `upper`."""
    if style == "upper":
        return "".join(words).upper()
    return "".join(word.title() if style == "camel" else word for word in words)
