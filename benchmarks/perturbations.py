"""What happens to copies of videos: filters and codecs by name, applied within the process by PyAV's own FFmpeg.

Every copy is decoded, filtered, encoded and decoded again. Its first frame is 0.37 s into the original, so that frames
taken at 16 per second fall between those of the original.
"""

from __future__ import annotations

import io
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from fractions import Fraction

import av
import numpy as np
from av.filter import Graph

OFFSET_S = 0.37
_LOGO = ("drawbox=x=iw*0.82:y=ih*0.03:w=iw*0.15:h=ih*0.15:color=white:t=fill",
         "drawbox=x=iw*0.84:y=ih*0.06:w=iw*0.06:h=ih*0.09:color=red:t=fill",
         "drawbox=x=iw*0.91:y=ih*0.09:w=iw*0.04:h=ih*0.03:color=navy:t=fill")  # fmt: skip
_WORDS = ((0.10, 0.12), (0.25, 0.05), (0.33, 0.20), (0.56, 0.09), (0.68, 0.16))  # where a caption's words begin, width


def _words(top: float) -> tuple[str, ...]:
    """A line of white "words" at this height of the picture."""
    return tuple(f"drawbox=x=iw*{x}:y=ih*{top}:w=iw*{w}:h=ih*0.05:color=white:t=fill" for x, w in _WORDS)


def _crop(share: float, where: str = "0.5") -> str:
    x, y = ("{x}", "{y}") if where == "anywhere" else (where, where)
    return f"crop=iw*{share}:ih*{share}:(iw-ow)*{x}:(ih-oh)*{y}"


def _luma(expression: str) -> str:
    return f"lutyuv=y=clip({expression},0,255)"


@dataclass(frozen=True)
class Perturbation:
    """One way of making a copy."""

    name: str
    group: str
    filters: tuple[str, ...] = ()  # {x} and {y} stand for a place from 0 to 1 that each clip draws
    codec: str = "libx264"
    options: dict[str, str] = field(default_factory=lambda: {"crf": "23"})
    bit_rate: int | None = None
    fps: float | None = None  # None keeps that of the original
    offset_s: float = OFFSET_S


def _crf(crf: int) -> dict[str, str]:
    return {"crf": str(crf)}


_SMALL, _LETTER_BOX = "scale=320:-2", "pad=iw:ih/0.76:0:(oh-ih)/2"
_CORE = (
    Perturbation("x264 crf 23", "core"),
    Perturbation("320 px, crf 28", "core", (_SMALL,), options=_crf(28)),
    Perturbation("128 px, crf 32", "core", ("scale=128:-2",), options=_crf(32)),
    Perturbation("crf 42", "core", options=_crf(42)),
    Perturbation("MPEG-4 q20 320 px", "core", (_SMALL,), "mpeg4", {"qmin": "20", "qmax": "20"}),
    Perturbation("VP9 60 kb/s", "core", (_SMALL,), "libvpx-vp9", {"deadline": "realtime", "cpu-used": "8"}, 60_000),
    Perturbation("10 fps", "core", fps=10),
    Perturbation("24 fps, 0.5 s off", "core", fps=24, offset_s=0.5),
    Perturbation("speed ×1.25", "core", ("setpts=PTS/1.25",)),
    Perturbation("brightness +0.15", "core", (_luma("val+38"),)),
    Perturbation("brightness -0.15", "core", (_luma("val-38"),)),
    Perturbation("contrast 1.5", "core", (_luma("(val-128)*1.5+128"),)),
    Perturbation("contrast 0.6", "core", (_luma("(val-128)*0.6+128"),)),
    Perturbation("gamma 0.6", "core", (_luma("255*pow(val/255,1/0.6)"),)),
    Perturbation("gamma 1.7", "core", (_luma("255*pow(val/255,1/1.7)"),)),
    Perturbation("vintage curve, vignette", "core", ("curves=vintage", "vignette")),
    Perturbation("grey", "core", ("hue=s=0",)),
    Perturbation("blur sigma 3", "core", ("gblur=sigma=3",)),
    Perturbation("noise 25", "core", ("noise=alls=25:allf=t",)),
    Perturbation("logo 15 %", "core", _LOGO),
    Perturbation("caption bar 12 %", "core", ("drawbox=y=ih*0.88:h=ih*0.12:w=iw:color=black:t=fill", *_words(0.915))),
    Perturbation("crop 95 %", "core", (_crop(0.95),)),
    Perturbation("rotate 2°", "core", ("rotate=PI/90",)),
    Perturbation("320 px, crop 95 %, brighter, logo, 15 fps, crf 32", "core",
                 (_SMALL, _crop(0.95), _luma("val+25"), *_LOGO), options=_crf(32), fps=15),
)  # fmt: skip
_FRAME = (
    Perturbation("crop 90 %", "frame", (_crop(0.90),)),
    Perturbation("letter-box 12 %", "frame", (_LETTER_BOX,)),
    Perturbation("pillar-box 12 %", "frame", ("pad=iw/0.76:ih:(ow-iw)/2:0",)),
    Perturbation("mirror", "frame", ("hflip",)),
    Perturbation("crop 80 %", "frame", (_crop(0.80),)),
    Perturbation("centre square", "frame", ("crop=min(iw,ih):min(iw,ih)",)),
)
_CROPS = (
    *(Perturbation(f"crop {share} %", "crops", (_crop(share / 100),)) for share in (92, 87, 85)),
    *(Perturbation(f"crop {share} % anywhere", "crops", (_crop(share / 100, "anywhere"),)) for share in (95, 92, 90, 87, 85)),
    Perturbation("crop 90 %, corner", "crops", (_crop(0.90, "0"),)),
    Perturbation("lower tenth cut away", "crops", ("crop=iw:ih*0.9:0:0",)),
)  # fmt: skip
_BARS = (
    Perturbation("letter-box, logo in a bar", "bars", (_LETTER_BOX, *_LOGO)),
    Perturbation("letter-box, caption in a bar", "bars", (_LETTER_BOX, *_words(0.92))),
    Perturbation("letter-box, captions in both bars", "bars", (_LETTER_BOX, *_words(0.03), *_words(0.92))),
    Perturbation("white letter-box", "bars", (f"{_LETTER_BOX}:white",)),
    Perturbation("narrow picture between wide bars", "bars", ("pad=iw/0.4:ih:(ow-iw)/2:0",)),
    Perturbation("blurred side bars", "bars", ("blurred_sides",)),
)
PERTURBATIONS = (*_CORE, *_FRAME, *_CROPS, *_BARS)


def encode_copy(frames: Sequence[av.VideoFrame], perturbation: Perturbation, rng: np.random.Generator) -> bytes:
    """Frames of the original, with times → the file of a copy."""
    place = {"x": round(float(rng.uniform()), 3), "y": round(float(rng.uniform()), 3)}
    filters = [step.format(**place) for step in perturbation.filters]
    kept = [frame for frame in frames if frame.time >= perturbation.offset_s]
    fps = perturbation.fps or (len(kept) - 1) / (kept[-1].time - kept[0].time)
    return _encode(_filtered(kept, filters, Fraction(fps).limit_denominator(1001)), perturbation)


def _filtered(frames: Sequence[av.VideoFrame], filters: Sequence[str], fps: Fraction) -> Iterator[av.VideoFrame]:
    """Frames at a constant rate with even sides."""
    graph, first = Graph(), frames[0]
    last = graph.add_buffer(width=first.width, height=first.height, format=first.format, time_base=first.time_base)
    even = "scale=trunc(iw/2)*2:trunc(ih/2)*2"
    for step in ("setpts=PTS-STARTPTS", *filters, f"fps={fps}", even, "setsar=1", "format=yuv420p"):
        last = _blurred_sides(graph, last) if step == "blurred_sides" else _add(graph, last, step)
    last.link_to(graph.add("buffersink"))
    graph.configure()
    for frame in (*frames, None):
        graph.push(frame)
        while True:
            try:
                yield graph.pull()
            except (av.BlockingIOError, av.EOFError):
                break


def _add(graph: Graph, before: av.filter.context.FilterContext, step: str) -> av.filter.context.FilterContext:
    name, _, arguments = step.partition("=")
    node = graph.add(name, arguments or None)
    before.link_to(node)
    return node


def _blurred_sides(graph: Graph, before: av.filter.context.FilterContext) -> av.filter.context.FilterContext:
    """The picture, narrower, in front of its own blurred enlargement: a phone's video in a wide frame."""
    split, overlay = graph.add("split"), graph.add("overlay", "(W-w)/2:(H-h)/2")
    before.link_to(split)
    behind, front = graph.add("gblur", "sigma=12"), graph.add("scale", "iw*0.6:ih")
    split.link_to(behind, 0, 0)
    split.link_to(front, 1, 0)
    behind.link_to(overlay, 0, 0)
    front.link_to(overlay, 0, 1)
    return overlay


def _encode(frames: Iterator[av.VideoFrame], perturbation: Perturbation) -> bytes:
    buffer, stream = io.BytesIO(), None
    with av.open(buffer, "w", format="matroska") as container:
        for number, frame in enumerate(frames):
            if stream is None:
                stream = container.add_stream(perturbation.codec, rate=1 / frame.time_base)
                stream.width, stream.height, stream.pix_fmt = frame.width, frame.height, "yuv420p"
                stream.codec_context.thread_count = 1
                if perturbation.bit_rate:
                    stream.bit_rate = perturbation.bit_rate
                preset = {"preset": "veryfast"} if perturbation.codec == "libx264" else {}
                stream.options = perturbation.options | preset
            frame.pts, frame.pict_type = number, av.video.frame.PictureType.NONE
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    return buffer.getvalue()
