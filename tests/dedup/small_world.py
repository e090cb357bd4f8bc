"""Datasets small enough to know by heart: moving textures as videos, or hand-written codes, as whole artefacts."""

from __future__ import annotations

import io
import json
import tarfile
from collections.abc import Callable
from itertools import takewhile

import av
import numpy as np
import pyarrow as pa

from dedup import census
from dedup.census import Signature
from pipeline import artifacts, storage, video
from pipeline.artifacts import DatasetFiles
from pipeline.config import BuildConfig, TargetConfig
from pipeline.upload import Upload

FPS = 24  # of the videos; their signatures are at 16


def texture_video(seed: int, num_frames: int = 48, height: int = 144, width: int = 192) -> np.ndarray:
    """uint8 [T, H, W]: a smooth random scene that a camera pans over, with something crossing it."""
    rng = np.random.default_rng(seed)
    canvas = _smooth_noise(rng, 2 * height, 2 * width)
    thing = _smooth_noise(rng, height // 3, width // 3)
    pan = rng.uniform(0.3, 1.0, 2) * rng.choice([-1, 1], 2)
    frames = np.empty((num_frames, height, width), np.uint8)
    for t in range(num_frames):
        y, x = (np.array([height, width]) / 2 * (1 + np.sin(pan * t / 30))).astype(int)
        frames[t] = canvas[y : y + height, x : x + width]
        left = (3 * t) % (width - width // 3)
        frames[t, height // 2 : height // 2 + height // 3, left : left + width // 3] = thing
    return frames


def _smooth_noise(rng: np.random.Generator, height: int, width: int) -> np.ndarray:
    """uint8 [H, W]: random values 24 px apart, blended linearly between."""
    values = rng.uniform(10, 245, (height // 24 + 2, width // 24 + 2))
    columns = np.stack([np.interp(np.arange(width) / 24, np.arange(values.shape[1]), row) for row in values])
    smooth = [np.interp(np.arange(height) / 24, np.arange(len(columns)), column) for column in columns.T]
    return np.stack(smooth, 1).astype(np.uint8)


def encode(frames: np.ndarray, crf: int = 20) -> bytes:
    """Luma uint8 [T, H, W] → a stored MP4 at `FPS`."""
    encoder = video.Encoder(*frames.shape[1:], FPS, crf=crf)
    for frame in frames:
        encoder.write(av.VideoFrame.from_ndarray(np.repeat(frame[..., None], 3, 2), "rgb24").reformat(format="yuv420p"))
    return encoder.finish()


def rescale(frames: np.ndarray, height: int, width: int) -> np.ndarray:
    """uint8 [T, H, W] → uint8 [T, height, width], by area."""
    scaler = video.Scaler()
    return np.stack([scaler.gray(av.VideoFrame.from_ndarray(f, "gray"), height, width) for f in frames])


def luma_at_16_fps(data: bytes, max_s: float = np.inf) -> np.ndarray:
    """uint8 [T, 112, 112] of the first seconds of any video file, as an ingest takes them."""
    upload, scaler, resampler = Upload(data), video.Scaler(), video.Resampler(census.SIGNATURE_FPS)
    shown = takewhile(lambda timed: timed[0] <= max_s, upload.frames())
    frames = [due for time_s, frame in shown for due in resampler.push(time_s, scaler.gray(frame, 112, 112))]
    upload.close()
    return np.stack([*frames, *resampler.finish()])


def coded(codes: list[int], invalid: int = 0) -> Signature:
    """Signature of informative frames with these codes (256-bit codes: the same four times), then uninformative ones."""
    codes64 = np.array(codes + [0] * invalid, np.uint64)
    quality = np.array([64] * len(codes) + [0] * invalid, np.uint8)
    return Signature(codes64, quality, np.repeat(codes64[:, None], 4, 1), (0, 0, 0, 0))


def write_dataset(root: str, name: str, shards: list[dict[str, Signature | bytes]]) -> DatasetFiles:
    """A finished dataset: one dict of video_id → MP4 (signature and file) or signature (no file) per shard."""
    files = artifacts.dataset_files(root, name)
    return _write(files, files.folder, files.marker, BuildConfig(root=root, dataset=name), shards)


def write_target(root: str, name: str, train: dict[str, Signature | bytes], test: dict[str, Signature | bytes]) -> None:
    """A finished target."""
    for split, videos in (("train", train), ("test", test)):
        files = artifacts.target_files(root, name, split)
        _write(files, files.folder, files.marker, TargetConfig(root=root, target=name), [videos])


def _write(files: DatasetFiles, folder: str, marker: str, config: object, shards: list[dict]) -> DatasetFiles:
    artifacts.open_stage(folder, marker, config, {})
    sign = census.target_signature if isinstance(config, TargetConfig) else census.signature
    num_frames = sum(_write_shard(files.shard(i), videos, sign) for i, videos in enumerate(shards))
    entries = [
        {"path": files.shard(i).removeprefix(f"{folder}/"), "num_videos": len(videos)}
        for i, videos in enumerate(shards)
    ]
    described = {"num_videos": sum(map(len, shards)), "minutes": num_frames / census.SIGNATURE_FPS / 60}
    counts = {"videos": described["num_videos"]}
    artifacts.seal(folder, marker, counts, shards=entries, seen=_fingerprint(shards), **described)
    return files


def _fingerprint(shards: list[dict]) -> int:
    return (
        hash(tuple(v if isinstance(v, bytes) else v.codes64.tobytes() for shard in shards for v in shard.values()))
        % 2**32
    )


def _write_shard(path: str, videos: dict[str, Signature | bytes], sign: Callable[[np.ndarray], Signature]) -> int:
    """Returns the number of signature frames."""
    rows, index, tar = [], [], io.BytesIO()
    with tarfile.open(fileobj=tar, mode="w") as archive:
        for key, content in videos.items():
            if isinstance(content, bytes):
                index.append(_add(archive, key, content))
                content = sign(luma_at_16_fps(content))
            rows.append(census.signature_row(key, content))
    storage.write_bytes(f"{path}.tar", tar.getvalue())
    storage.write_parquet(f"{path}.parquet", pa.Table.from_pylist(index, artifacts.SHARD_INDEX))
    storage.write_parquet(f"{path}.sig.parquet", pa.Table.from_pylist(rows, artifacts.SIGNATURES))
    storage.write_json(f"{path}.json", {"videos": len(rows)})
    return sum(row["num_frames"] for row in rows)


def _add(archive: tarfile.TarFile, key: str, data: bytes) -> dict:
    members = {".mp4": data, ".json": json.dumps({"key": key}).encode()}
    offsets = {}
    for suffix, content in members.items():
        member = tarfile.TarInfo(key + suffix)
        member.size = len(content)
        offsets[suffix] = archive.offset + 512
        archive.addfile(member, io.BytesIO(content))
    num_frames = len(video.read_video(data))
    return {
        "key": key, "video_offset": offsets[".mp4"], "video_size": len(data), "json_offset": offsets[".json"],
        "json_size": len(members[".json"]), "label_ids": [0], "num_frames": num_frames, "fps": FPS,
        "duration_s": num_frames / FPS, "status": "ok",
    }  # fmt: skip
