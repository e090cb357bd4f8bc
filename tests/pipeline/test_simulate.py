"""A simulated platform as a stage: labels of every kind that its posts carry, whole when its marker is there."""

from dataclasses import replace

import pytest

from pipeline import simulate, storage
from pipeline.config import ConfigError, ExecutionConfig, PlatformConfig


def test_a_platform_has_labels_of_every_kind_and_refuses_another_in_its_place(tmp_path):
    config = PlatformConfig(
        root=str(tmp_path),
        num_posts=2,
        train_videos_per_class=1,
        test_videos_per_class=1,
        execution=ExecutionConfig(num_workers=1),
    )
    simulate.simulate(config)
    labels = {
        kind: (tmp_path / "world" / "labels" / f"{kind}.txt").read_text().splitlines()
        for kind in ("kinetics", "noun", "verb", "verb_noun")
    }
    assert {kind: len(names) for kind, names in labels.items()} == {
        "kinetics": 32,
        "noun": 4,
        "verb": 8,
        "verb_noun": 32,
    }
    assert "rolling ball" in labels["kinetics"]
    assert "roll ball" in labels["verb_noun"]
    assert {name for pair in labels["kinetics"] for name in pair.split()} == {*labels["noun"], *labels["verb"]}
    assert "config" in storage.read_json(str(tmp_path / "world" / "platform.json"))
    with pytest.raises(ConfigError, match=r"num_posts: 2 there, 3 asked.*--root"):
        simulate.simulate(replace(config, num_posts=3))
