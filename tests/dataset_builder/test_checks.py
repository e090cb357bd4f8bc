"""Settings that cannot be meant are refused before any file is read or written."""

from dataclasses import replace

import pytest

from dataset_builder.build import build
from dataset_builder.checks import RANGES, check
from dataset_builder.targets import build_target
from pipeline import config as configs
from pipeline.config import BuildConfig, ConfigError, ExecutionConfig, SourceConfig, TargetConfig
from tests.dataset_builder.small_world import HERE

CONFIG = BuildConfig(root="/root-folder", source=SourceConfig(posts="nowhere.csv"), execution=HERE)


def changed(section, **values):
    return replace(CONFIG, **{section: replace(getattr(CONFIG, section), **values)})


@pytest.mark.parametrize(
    ("section", "values", "message"),
    [
        ("sampling", {"num_videos": 3, "minutes": 2.0}, "num-videos and --sampling.minutes both set the size"),
        ("sampling", {"minutes": 0.0}, "minutes must be more than 0"),
        ("sampling", {"minutes": float("nan")}, "minutes must be more than 0"),
        ("sampling", {"minutes": float("inf")}, "minutes must be more than 0, not inf"),
        ("sampling", {"num_labels": 0}, "num-labels must be at least 1"),
        ("sampling", {"min_videos": 0}, "min-videos must be at least 1"),
        ("sampling", {"minutes": 2.0, "duration": "short"}, "needs --sampling.strategy random"),
        ("storage", {"samples_per_shard": 0}, "samples-per-shard must be at least 1"),
        ("storage", {"short_side_px": -5}, "short-side-px must be at least 16"),
        ("storage", {"short_side_px": 33}, "short-side-px must be even"),
        ("storage", {"max_fps": 0.0}, "max-fps must be at least 1"),
        ("storage", {"max_duration_s": 0.0}, "max-duration-s must be more than 0"),
        ("storage", {"crf": 99}, "crf must be at least 0 and at most 51, not 99"),
        ("storage", {"gop": 0}, "gop must be at least 1"),
        ("execution", {"num_workers": 0}, "num-workers must be at least 1"),
        ("execution", {"decode_memory_mb": 100}, "decode-memory-mb must be at least 512, not 100"),
        ("execution", {"decode_timeout_s": -1.0}, "decode-timeout-s must be more than 0"),
    ],
)
def test_settings_that_cannot_be_meant_are_named(section, values, message):
    with pytest.raises(ConfigError, match=message):
        build(changed(section, **values))
    if section != "sampling":
        with pytest.raises(ConfigError, match=message):
            build_target(TargetConfig(**{"execution": HERE, section: getattr(changed(section, **values), section)}))


@pytest.mark.parametrize("section", RANGES)
def test_the_ranges_are_of_settings_that_exist_and_hold_their_defaults(section):
    default = getattr(BuildConfig(), section)
    assert RANGES[section].keys() <= configs.to_dict(default).keys()
    check(replace(CONFIG, **{section: replace(default, **({"backend": "process"} if section == "execution" else {}))}))


def test_a_subset_has_no_failed_videos_of_its_own():
    with pytest.raises(ConfigError, match="give --retry-failed to the build of 'big'"):
        build(replace(CONFIG, base="big", retry_failed=True))


@pytest.mark.parametrize("address", ["auto", "10.0.0.1:6379"])
def test_relative_paths_are_refused_where_the_parts_run_in_other_folders(address, monkeypatch):
    monkeypatch.delenv("RAY_ADDRESS", raising=False)
    relative = replace(CONFIG, root="data", execution=ExecutionConfig())
    check(relative)
    check(replace(relative, root="s3://bucket/data", execution=ExecutionConfig(address=address)))
    check(replace(relative, root="/data", execution=ExecutionConfig(address=address)))
    with pytest.raises(ConfigError, match=r"--root 'data' is relative.* absolute path"):
        check(replace(relative, execution=ExecutionConfig(address=address)))
    prefixed = replace(relative, root="/data", source=replace(CONFIG.source, uri_prefix="videos"))
    check(prefixed)
    with pytest.raises(ConfigError, match=r"--source.uri-prefix 'videos' is relative"):
        check(replace(prefixed, execution=ExecutionConfig(address=address)))
    monkeypatch.setenv("RAY_ADDRESS", address)  # as in every Ray job
    with pytest.raises(ConfigError, match=r"--root 'data' is relative"):
        check(relative)
