"""Is an upload in the stored form already? Told from its packets, without decoding: such a file may be stored as it is.

The stored form is what `video.Encoder` writes and `video.read_clip` relies on: one H.264 stream in MP4, pictures of even
size in yuv420p, frame i at time i / rate exactly, and every GOP closed (it begins with an IDR picture) and short.
"""

from __future__ import annotations

import io
from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction

import av

IDR, SLICES = 5, range(1, 6)  # H.264 NAL unit types: slices of an IDR picture, and all that carry pictures


@dataclass(frozen=True)
class StoredForm:
    fps: float
    num_frames: int
    height: int
    width: int


def stored_form(data: bytes, *, short_side_px: int, max_fps: float, gop: int) -> StoredForm | None:
    """What a file in the stored form holds; None for every other file, whatever it is."""
    try:
        with av.open(io.BytesIO(data), format="mp4", metadata_errors="replace") as container:
            return _described(container, short_side_px, max_fps, gop)
    except MemoryError:
        raise
    except (av.FFmpegError, OSError, ValueError):
        return None


def _described(
    container: av.container.InputContainer, short_side_px: int, max_fps: float, gop: int
) -> StoredForm | None:
    stream = container.streams[0]
    if len(container.streams) != 1 or stream.type != "video" or stream.codec_context is None:
        return None
    context, rate = stream.codec_context, stream.average_rate
    height, width = context.height, context.width
    is_format = (
        context.name == "h264"
        and context.pix_fmt == "yuv420p"
        and context.color_range != 2
        and (context.extradata or b"")[:1] == b"\1"
    )
    is_size = min(height, width) == short_side_px and not (height % 2 or width % 2)
    if not (is_format and is_size and rate and 1 <= rate <= max_fps):
        return None
    packets = [packet for packet in container.demux(stream) if packet.size]
    if not (
        packets and _is_constant_rate(packets, 1 / (rate * stream.time_base)) and _is_closed(packets, context, gop)
    ):
        return None
    return StoredForm(float(rate), len(packets), height, width)


def _is_constant_rate(packets: Sequence[av.Packet], ticks: Fraction) -> bool:
    """Whether frame i is at i × ticks, all are shown, and there is no other."""
    if ticks.denominator != 1 or any(
        packet.is_discard or packet.is_corrupt or packet.pts is None for packet in packets
    ):
        return False
    return sorted(packet.pts for packet in packets) == [i * ticks for i in range(len(packets))]


def _is_closed(packets: Sequence[av.Packet], context: av.VideoCodecContext, gop: int) -> bool:
    """Whether every keyframe is an IDR picture, and at most `gop` frames lie from one to the next."""
    length_bytes = (context.extradata[4] & 3) + 1
    keyframes = [i for i, packet in enumerate(packets) if packet.is_keyframe]
    steps = [later - earlier for earlier, later in zip(keyframes, [*keyframes[1:], len(packets)], strict=True)]
    is_short = bool(keyframes) and keyframes[0] == 0 and max(steps) <= gop
    return is_short and all(_is_idr(bytes(packets[i]), length_bytes) for i in keyframes)


def _is_idr(packet: bytes, length_bytes: int) -> bool:
    """Whether all slices of an access unit (NAL units, each after its length) are those of an IDR picture."""
    kinds, at = set(), 0
    while at + length_bytes < len(packet):
        size = int.from_bytes(packet[at : at + length_bytes], "big")
        kinds.add(packet[at + length_bytes] & 31)
        at += length_bytes + size
    return at == len(packet) and kinds.intersection(SLICES) == {IDR}
