"""Which videos a dedup took out of a dataset, as every reader must see it: nothing stale, nothing half done."""

from __future__ import annotations

from pipeline import artifacts, storage
from pipeline.artifacts import DatasetFiles
from pipeline.config import ConfigError


def read_exclusions(files: DatasetFiles) -> tuple[set[str], str]:
    """Excluded video_ids of a dataset and the digest of the dedup that found them ("" where no dedup was run).

    Raises ConfigError when a dedup was begun and is not finished, when the dataset has gained videos since
    (`--retry-failed`), or when that from which it was drawn has had another dedup since: training on half a list would be
    silent contamination.
    """
    _check_base(files)
    digest = _dedup_digest(files)
    excluded = storage.read_parquet(files.exclusions, columns=["video_id"])["video_id"].to_pylist() if digest else []
    return set(excluded), digest


def _dedup_digest(files: DatasetFiles) -> str:
    if storage.exists(files.dedup_marker):
        dedup = storage.read_json(files.dedup_marker)
        if dedup["input_digests"]["dataset"] != storage.read_json(files.marker)["digest"]:
            raise ConfigError(
                f"dataset '{files.name}' has changed since its dedup: run `tagreel dedup --dataset {files.name}` "
                "with the same targets and --force"
            )
        return dedup["digest"]
    if storage.exists(storage.join(files.dedup, "config.json")) or storage.exists(files.exclusions):
        raise ConfigError(f"the dedup of dataset '{files.name}' was begun and not finished: run `tagreel dedup` again")
    return ""


def _check_base(files: DatasetFiles) -> None:
    marker = storage.read_json(files.marker) if storage.exists(files.marker) else {}
    if (name := marker.get("config", {}).get("base")) is None:  # not drawn, or copied out of what was
        return
    base = DatasetFiles(artifacts.shard_path(files.folder, f"../{name}"), name)
    _check_base(base)
    if _dedup_digest(base) != marker["input_digests"]["dedup"]:
        raise ConfigError(
            f"dataset '{files.name}' was drawn from '{name}' before the last dedup of '{name}': "
            f"run `tagreel build --dataset {files.name} --base {name} …` again with --force"
        )
