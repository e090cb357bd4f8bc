"""Provenance of every number: for each point, what it was made from, with what, and the commands that make it again."""

from __future__ import annotations

import base64
import hashlib
import json
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

from pipeline.report.axes import metric_name
from pipeline.report.markup import Safe, details, join, percent, plural, pre, span, table, tag, value
from pipeline.report.markup import section as page_section
from pipeline.report.origins import Input, Origin
from pipeline.report.points import Plan, Point, number, section

Origins = dict[str, Origin]

MAX_CSV_BYTES = 300_000
"""A larger results.csv is only linked, not carried in the page."""


MAX_OPEN_PROBLEMS = 4
"""Kinds of problems; more are folded."""


def anchor(point: Point) -> str:
    """Id of a point's block in the page: its own may have any character in it."""
    return "from-" + hashlib.sha256(point.id.encode(errors="replace")).hexdigest()[:10]


def link(point: Point, text: Any) -> Safe:
    """Text that leads to where the point's number comes from."""
    return tag("a", text, href=f"#{anchor(point)}")


# --------------------------------------------------------------------------------------------------- the section

_HEADERS = (
    "Point", "Target", "Protocol", "Videos", "Seed", "Status", "Result (%)", "Test videos", "Undecodable", "Excluded",
    "Dataset digest", "Run digest", "Result digest",
)  # fmt: skip


def provenance_section(plan: Plan, rows: Sequence[dict[str, Any]], origins: Origins) -> Safe:
    """`rows`: those of results.csv, in the order of the points."""
    intro = (
        "Every planned point, with or without a result; its name leads to all that stands behind its number. A digest "
        "changes when anything that decides the artefact changes. “Excluded” are pretraining videos that overlap a target video."
    )
    found = [(point, row, origins[point.id]) for point, row in zip(plan.points, rows, strict=True)]
    content = table(_HEADERS, [_row(*each) for each in found], label="Provenance", align="lllrrlrrrrccc")
    blocks = (_block(*each) for each in found)
    heading = tag("h3", "Each point")
    return page_section("provenance", "Provenance", tag("p", intro), content, _versions(plan), heading, *blocks)


def _row(point: Point, row: dict[str, Any], origin: Origin) -> list[Any]:
    tested, undecodable = (value(row[key]) for key in ("num_test_videos", "num_undecodable"))
    digests = [row["dataset_digest"], row["run_digest"], row["result_digest"]]
    numbers = [point.headline and percent(point.headline.value), tested, undecodable, value(origin.exclusions[0])]
    videos = f"{point.num_videos:,}" if point.kind == "pretrained" else None
    where = [point.target, point.protocol, videos, str(point.seed)]
    return [link(point, point.id), *where, _status(point, origin), *numbers, *digests]


def _status(point: Point, origin: Origin) -> Any:
    if not point.ok:
        return tag("span", point.status, class_="warn")
    return tag("span", "check", class_="warn") if _oddities(point, origin) else "ok"


# ------------------------------------------------------------------------------------------------- one point's block


def _block(point: Point, row: dict[str, Any], origin: Origin) -> Safe:
    found = point.headline
    odd = _oddities(point, origin)
    short = join(" · ", tag("span", "look at this" if point.ok else point.status, class_="warn")) if odd else None
    summary = join(
        tag("b", point.id), f" · {metric_name(found.name)} {percent(found.value)} %" if found else None, short
    )
    alarm = tag("div", *(tag("p", text) for text in odd), class_="callout") if odd else None
    facts = [(what, text) for what, text in _facts(point, row, origin) if text]
    listed = tag("dl", *(join(tag("dt", what), tag("dd", text)) for what, text in facts))
    inputs = _inputs(origin.inputs) if origin.inputs else None
    script = (
        join(tag("h4", "Commands, from posts to this number"), pre("\n".join(origin.commands)))
        if origin.commands
        else None
    )
    return details(summary, alarm, listed, inputs, script, id=anchor(point))


def _facts(point: Point, row: dict[str, Any], origin: Origin) -> Iterator[tuple[str, Any]]:
    result, counts = point.result, section(point.result, "counts")
    yield "Result", _result_text(point)
    yield "Test videos", _split(section(counts, "test_videos"), "scored")
    yield "Training videos of the target", _split(section(counts, "train_videos"), "used")
    yield "Pretraining", _pretraining(point, origin)
    yield "Exclusions", _exclusions(point, origin)
    yield "Pretraining videos lost", _losses(origin)
    yield "Seed", ", ".join(map(str, result.get("seeds") or [point.seed]))
    yield "Chosen by the search", row["chosen"]
    yield "Transfer made with", _pairs(result.get("versions"))
    yield "Pretraining made with", _pairs(_without(section(origin.run, "provenance"), "device", "world_size"))
    yield "Machine", _machine(point, origin)
    yield "Wall time", _wall_time(point, origin)
    yield "Network and clips", _network(result)
    yield "Remarks", "; ".join(map(str, result.get("remarks") or ()))
    yield "Digests", _digests(point, row)
    yield "The result's own command", tag("code", result["command"]) if result.get("command") else None


def _result_text(point: Point) -> str:
    found = point.headline
    if found is None:
        return point.problem
    kind = point.metrics.get("interval_of") or "95 % interval"
    certainty = f", {kind}: {span(found.interval)}" if found.interval else ""
    return f"{metric_name(found.name)} {100 * found.value:.2f} %{certainty}"


def _split(counts: dict[str, Any], used: str) -> str | None:
    """ "1,000, of which 998 were scored; undecodable: 2 no_video_stream"."""
    if not counts:
        return None
    reasons = _pairs(counts.get("undecodable"), "{value} {key}") or "none"
    return f"{value(counts.get('attempted'))}, of which {value(counts.get(used))} were {used}; undecodable: {reasons}"


def _pretraining(point: Point, origin: Origin) -> str | None:
    if point.kind == "scratch":
        return "none"
    counts = section(origin.run, "counts")
    known = (("videos", "videos"), ("kept", "kept"), ("clips_seen", "clips seen"))
    found = [f"{counts[key]:,} {name}" for key, name in known if isinstance(counts.get(key), int)]
    minutes = number(point.drawn.get("minutes"))
    drawn = [f"{minutes:,.1f} minutes"] if minutes is not None else []
    return ", ".join([f"run {point.run}", f"dataset {point.dataset}", *found, *drawn])


def _exclusions(point: Point, origin: Origin) -> str | None:
    count, digest = origin.exclusions
    if point.kind == "scratch":
        return None
    by = f"by the dedup {digest}" if digest else "no dedup is on record"
    return f"{plural(count, 'video')} left out because they overlap a target video, {by}" if count is not None else by


def _losses(origin: Origin) -> str | None:
    """Undecodable videos of the pretraining: those set aside when it was built, and clips replaced while it ran."""
    counts = section(origin.run, "counts")
    built = section(origin.base or origin.dataset, "quarantined")
    lost = _pairs(built, "{value} {key}") or ("none" if origin.dataset else None)
    replaced = counts.get("replaced")
    clips = f"; {plural(replaced, 'clip')} replaced in training" if isinstance(replaced, int) else ""
    return f"undecodable when the shards were built: {lost}{clips}" if lost else None


def _machine(point: Point, origin: Origin) -> str | None:
    stages = {"pretraining": section(origin.run, "provenance"), "transfer": point.result}
    told = (
        f"{what}: {made['device']} × {made.get('world_size') or 1}"
        for what, made in stages.items()
        if made.get("device")
    )
    return "; ".join(told) or None


def _wall_time(point: Point, origin: Origin) -> str | None:
    pretraining = number(section(origin.run, "performance").get("seconds"))
    taken = point.result.get("seconds")
    stages = taken if isinstance(taken, dict) else {"all": taken}
    parts = [f"pretraining {duration(pretraining)}"] if pretraining is not None else []
    for stage, seconds in stages.items():
        if (seconds := number(seconds)) is not None:
            parts.append(f"transfer{'' if stage == 'all' else f', {stage}'} {duration(seconds)}")
    return "; ".join(parts) or None


def duration(seconds: float) -> str:
    """12.3 s, 4 min 5 s, 3 h 12 min."""
    if seconds < 60:
        return f"{seconds:.1f} s"
    minutes, rest = divmod(round(seconds), 60)
    hours, left = divmod(minutes, 60)
    return f"{hours:,} h {left} min" if hours else f"{minutes} min {rest} s"


def _network(result: dict[str, Any]) -> str | None:
    model, clip = section(result, "model"), section(result, "clip")
    if not model and not clip:
        return None
    name = f"{model.get('name')}" + (
        f", width {model['width']:g}" if number(model.get("width")) not in (None, 1.0) else ""
    )
    return (
        f"{name}; clips of {clip.get('length')} frames at {value(clip.get('fps'))} frames/s, {clip.get('crop_px')} px"
    )


def _digests(point: Point, row: dict[str, Any]) -> str:
    known = {"dataset": row["dataset_digest"], "run": row["run_digest"], "result": row["result_digest"],
             "configuration of the transfer": point.result.get("config_digest")}  # fmt: skip
    return ", ".join(f"{what} {digest}" for what, digest in known.items() if digest)


def _pairs(values: Any, form: str = "{key} {value}") -> str:
    if not isinstance(values, dict):
        return str(values or "")
    return ", ".join(form.format(key=key, value=entry) for key, entry in sorted(values.items()) if entry is not None)


def _without(values: dict[str, Any], *keys: str) -> dict[str, Any]:
    return {key: entry for key, entry in values.items() if key not in keys}


def _inputs(inputs: Sequence[Input]) -> Safe:
    rows = [[entry.reader, entry.name, entry.used, *_now(entry)] for entry in inputs]
    return table(
        ("Made", "From", "Digest then", "Digest now", ""), rows, label="Artefacts behind the point", align="llccl"
    )


def _now(entry: Input) -> tuple[Any, Any]:
    if entry.now is None:
        return None, tag("span", "gone", class_="warn")
    return entry.now, tag("span", "changed since", class_="warn") if entry.changed else "as it was"


# ------------------------------------------------------------------------------------------- versions, problems, data


def _versions(plan: Plan) -> Safe | None:
    """Versions of all results; more than one set means the points are not strictly comparable."""
    sets: dict[str, int] = {}
    for point in plan.points:
        if text := _pairs(point.result.get("versions")):
            sets[text] = sets.get(text, 0) + 1
    if not sets:
        return None
    mixed = tag("p", "The results were made with different versions:", class_="warn") if len(sets) > 1 else None
    return join(
        mixed, tag("ul", *(tag("li", f"{plural(count, 'result')} with {text}") for text, count in sets.items()))
    )


def _oddities(point: Point, origin: Origin) -> list[str]:
    """What a reader should know before trusting the number, or why there is none."""
    found = [point.problem] if point.problem else []
    stale = (entry for entry in origin.inputs if entry.changed)
    rerun = (
        entry for entry in stale if not (entry.reader == "result" and entry.name == f"run {point.run}")
    )  # its own problem
    found += [f"{entry.reader} was made from {entry.name} as it was; that has changed since" for entry in rerun]
    trained = number(section(origin.run, "counts").get("kept"))
    if point.kind == "pretrained" and trained is not None and trained < point.num_videos:
        found.append(f"{plural(point.num_videos, 'video')} asked for, {trained:,.0f} trained on")
    return found


def problems(plan: Plan, origins: Origins) -> Safe | None:
    """Points without a result, and results with something odd about them, for the top of the page."""
    odd = [(point, texts) for point in plan.points if (texts := _oddities(point, origins[point.id]))]
    if not odd:
        return None
    absent = sum(not point.ok for point, _ in odd)
    parts = [f"{absent} of {plural(len(plan.points), 'point')} have no result"] if absent else []
    parts += [f"{plural(len(odd) - absent, 'result')} need a look"] if len(odd) > absent else []
    alike: dict[str, list[Point]] = {}
    for point, texts in odd:
        alike.setdefault("; ".join(texts), []).append(point)
    items = (tag("li", *_among(link(point, point.id) for point in found), f": {text}") for text, found in alike.items())
    return tag(
        "aside",
        tag("p", tag("b", "; ".join(parts) + ".")),
        details("Which", tag("ul", *items), open="" if len(alike) <= MAX_OPEN_PROBLEMS else None),
        class_="callout",
    )


def _among(links: Iterable[Safe]) -> Iterator[Any]:
    for index, entry in enumerate(links):
        yield from (", ", entry) if index else (entry,)


def downloads(csv: bytes) -> Safe:
    """results.csv, beside the page and (where it is small) in it, for a page that was sent on alone."""
    beside = tag("a", "results.csv", href="results.csv")
    if len(csv) > MAX_CSV_BYTES:
        return tag("p", "All numbers: ", beside, " (beside this page)", class_="sub")
    inside = "data:text/csv;charset=utf-8;base64," + base64.b64encode(csv).decode()
    copy = tag("a", "the copy in this page", href=inside, download="results.csv")
    return tag("p", "All numbers: ", beside, " (beside this page) or ", copy, class_="sub")


def configuration_section(plan: Plan) -> Safe:
    text = json.dumps(plan.config, indent=2, ensure_ascii=False)
    return page_section("configuration", "Configuration", details("The whole resolved configuration", pre(text)))
