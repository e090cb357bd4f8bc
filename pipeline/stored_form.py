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
from av.video.reformatter import ColorRange

IDR, SLICES = 5, range(1, 6)  # H.264 NAL unit types: slices of an IDR picture, and all that carry pictures


@dataclass(frozen=True)
class StoredForm:
    fps: float
    num_frames: int
    height: int
    width: int


def stored_form(data: bytes, *, short_side_px: int, max_fps: float, gop: int) -> StoredForm | None:
    """What a file in the stored form holds; None for every other file. It must have passed the limits of `Upload`."""
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
    if len(container.streams) != 1 or len(container.streams.video) != 1 or not _is_h264(container.streams.video[0]):
        return None
    stream = container.streams.video[0]
    context, rate = stream.codec_context, stream.average_rate
    is_size = min(context.height, context.width) == short_side_px and not (context.height % 2 or context.width % 2)
    if not (is_size and rate and 1 <= rate <= max_fps):
        return None
    packets = [packet for packet in container.demux(stream) if packet.size]
    ticks = 1 / (rate * stream.time_base)
    if not (packets and _is_constant_rate(packets, ticks) and _is_closed(packets, context, gop)):
        return None
    return StoredForm(float(rate), len(packets), context.height, context.width)


def _is_h264(stream: av.VideoStream) -> bool:
    """Whether pictures are H.264 in yuv420p and video range, with lengths before the NAL units, as MP4 has them."""
    context = stream.codec_context
    if context is None or (context.name, context.pix_fmt) != ("h264", "yuv420p"):
        return False
    return context.color_range != ColorRange.JPEG and (context.extradata or b"").startswith(b"\1")


def _is_constant_rate(packets: Sequence[av.Packet], ticks: Fraction) -> bool:
    """Whether frame i is at i × ticks, all are shown, and there is no other."""
    is_odd = any(packet.is_discard or packet.is_corrupt or packet.pts is None for packet in packets)
    if is_odd or ticks.denominator != 1:
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
