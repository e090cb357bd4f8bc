"""croissant.json: what a dataset is, where it comes from and how it is read, in the vocabulary of Croissant 1.0 (JSON-LD).

Made from the config and from what dataset.json is about to say, so that the same dataset gives the same bytes; paths are
relative to the dataset's folder. Who publishes it adds what nobody else can know: licence, creator, url, date (docs/storage.md).
Specification: http://mlcommons.org/croissant/1.0, and http://mlcommons.org/croissant/RAI/1.0 for the `rai:` notes.
"""

from __future__ import annotations

from typing import Any

from dataset_builder import provenance
from dataset_builder.provenance import WriterConfig
from pipeline import storage
from pipeline.artifacts import DatasetFiles

Node = dict[str, Any]

MANIFEST_FIELDS = {
    "video_id": ("sc:Text", "the key of the video"),
    "uri": ("sc:Text", "where the upload was read from"),
    "start_s": ("sc:Float", "first second that counts; null: from the beginning"),
    "end_s": ("sc:Float", "end of what counts; null: to the end"),
    "label_ids": ("sc:Integer", "ids among the labels, at least one"),
    "weight": ("sc:Float", "how often one virtual pass draws the video (square-root sampling)"),
}
INDEX_FIELDS = {
    "key": ("sc:Text", "the video, by its key"),
    "label_ids": ("sc:Integer", "ids among the labels, at least one"),
    "duration_s": ("sc:Float", "length of the stored video, in seconds"),
    "num_frames": ("sc:Integer", "frames of the stored video"),
    "fps": ("sc:Float", "frames per second of the stored video"),
    "width": ("sc:Integer", "of the stored picture, in pixels"),
    "height": ("sc:Integer", "of the stored picture, in pixels"),
    "video_size": ("sc:Integer", "bytes of the stored video"),
    "source_sha256": ("sc:Text", "SHA-256 of the upload"),
    "status": ("sc:Text", "ok, or quarantined: not stored"),
    "reason": ("sc:Text", "why it is not stored; null when it is"),
}
_CONTEXT = {
    "@language": "en",
    "@vocab": "https://schema.org/",
    "citeAs": "cr:citeAs",
    "column": "cr:column",
    "conformsTo": "dct:conformsTo",
    "cr": "http://mlcommons.org/croissant/",
    "data": {"@id": "cr:data", "@type": "@json"},
    "dataType": {"@id": "cr:dataType", "@type": "@vocab"},
    "dct": "http://purl.org/dc/terms/",
    "equivalentProperty": "cr:equivalentProperty",
    "examples": {"@id": "cr:examples", "@type": "@json"},
    "extract": "cr:extract",
    "field": "cr:field",
    "fileObject": "cr:fileObject",
    "fileProperty": "cr:fileProperty",
    "fileSet": "cr:fileSet",
    "format": "cr:format",
    "includes": "cr:includes",
    "isLiveDataset": "cr:isLiveDataset",
    "jsonPath": "cr:jsonPath",
    "key": "cr:key",
    "md5": "cr:md5",
    "parentField": "cr:parentField",
    "path": "cr:path",
    "rai": "http://mlcommons.org/croissant/RAI/",
    "recordSet": "cr:recordSet",
    "references": "cr:references",
    "regex": "cr:regex",
    "repeated": "cr:repeated",
    "replace": "cr:replace",
    "samplingRate": "cr:samplingRate",
    "sc": "https://schema.org/",
    "separator": "cr:separator",
    "source": "cr:source",
    "subField": "cr:subField",
    "transform": "cr:transform",
}


def write_croissant(
    files: DatasetFiles, config: WriterConfig, counts: dict[str, Any], described: dict[str, Any]
) -> None:
    """Write croissant.json beside the shards.

    Args:
        counts: {stage: {in, kept, dropped}} of dataset.json.
        described: the rest of dataset.json, as of `dataset.describe`; a subset also has `base`, whose shards it reads.
    """
    storage.write_json(files.croissant, describe_croissant(config, counts, described))


def describe_croissant(config: WriterConfig, counts: dict[str, Any], described: dict[str, Any]) -> Node:
    """Content of croissant.json; arguments as of `write_croissant`."""
    return {
        "@context": _CONTEXT,
        "@type": "sc:Dataset",
        "conformsTo": ["http://mlcommons.org/croissant/1.0", "http://mlcommons.org/croissant/RAI/1.0"],
        "name": described["name"],
        "description": provenance.summary(config, described),
        "keywords": ["video", "action recognition", "WebDataset"],
        **({"isBasedOn": f"../{described['base']}/croissant.json"} if _reads_other_shards(described) else {}),
        **provenance.notes(config, counts, described),
        "distribution": _distribution(described),
        "recordSet": _record_sets(described),
    }


# ----------------------------------------------------------------------------------------------------------- files


def _distribution(described: dict[str, Any]) -> list[Node]:
    tars = [_tar(shard) for shard in described["shards"]]
    inside = [{"@id": tar["@id"]} for tar in tars]
    manifest = _file_set(
        "manifest-files", "application/x-parquet", "manifest/part-*.parquet", "One row for each video."
    )
    # An index ends in a digit; signatures, .sig.parquet, do not.
    index = _file_set(
        "index-files", "application/x-parquet", "shards/*[0-9].parquet", "One row for each video that was attempted."
    )
    return [
        *([manifest] if _reads_other_shards(described) else [manifest, index]),
        *tars,
        _file_set("video-files", "video/mp4", "*.mp4", "KEY.mp4 of the tars.", inside),
        _file_set("description-files", "application/json", "*.json", "KEY.json of the tars.", inside),
    ]


def _tar(shard: dict[str, Any]) -> Node:
    name = shard["path"].rpartition("/")[2]
    return {
        "@type": "cr:FileObject",
        "@id": f"tar-{name.rpartition('-')[2]}",
        "name": f"{name}.tar",
        "contentUrl": f"{shard['path']}.tar",
        "contentSize": f"{shard['bytes']} B",
        "encodingFormat": "application/x-tar",
        "sha256": shard["sha256"],
    }


def _reads_other_shards(described: dict[str, Any]) -> bool:
    """Of a subset, whose shards (and their indices) are its base's and hold more than what belongs to it."""
    return described["shards"][0]["path"].startswith("../")


def _file_set(name: str, encoding: str, includes: str, description: str, inside: list[Node] | None = None) -> Node:
    return {
        "@type": "cr:FileSet",
        "@id": name,
        "name": name,
        "description": description,
        **({"containedIn": inside} if inside else {}),
        "encodingFormat": encoding,
        "includes": includes,
    }


# --------------------------------------------------------------------------------------------------------- records


def _record_sets(described: dict[str, Any]) -> list[Node]:
    labels = _labels(described["labels"])
    manifest = _table("manifest", MANIFEST_FIELDS, "video_id", "The dataset's videos, with their labels.")
    index = _table("index", INDEX_FIELDS, "key", "What became of each video that was attempted.")
    if _reads_other_shards(described):
        return [
            labels,
            manifest,
            _videos("The manifest lists which of them belong to the dataset, KEY.json their sizes."),
        ]
    return [labels, manifest, index, _videos("The index has their labels, lengths and sizes under the same key.")]


def _labels(labels: list[dict[str, Any]]) -> Node:
    """The enumeration that `label_ids` refer to."""
    described = {
        "id": ("sc:Integer", "what label_ids hold"),
        "name": ("sc:Text", "the label"),
        "num_videos": ("sc:Integer", "videos that have it"),
    }
    return {
        "@type": "cr:RecordSet",
        "@id": "labels",
        "name": "labels",
        "description": "The label space.",
        "dataType": "sc:Enumeration",
        "key": {"@id": "labels/id"},
        "field": [_field("labels", column, *about) for column, about in described.items()],
        "data": [{f"labels/{column}": label[column] for column in described} for label in labels],
    }


def _table(name: str, columns: dict[str, tuple[str, str]], key: str, description: str) -> Node:
    return {
        "@type": "cr:RecordSet",
        "@id": name,
        "name": name,
        "description": description,
        "key": {"@id": f"{name}/{key}"},
        "field": [_column(name, column, *about) for column, about in columns.items()],
    }


def _column(record_set: str, column: str, data_type: str, description: str) -> Node:
    repeated = {"repeated": True} if column == "label_ids" else {}
    source = {"fileSet": {"@id": f"{record_set}-files"}, "extract": {"column": column}}
    return {**_field(record_set, column, data_type, description), **repeated, "source": source}


def _videos(where_labels_are: str) -> Node:
    source = {"fileSet": {"@id": "video-files"}}
    of_name = {"extract": {"fileProperty": "filename"}, "transform": {"regex": r"^(.*)\.mp4$"}}
    return {
        "@type": "cr:RecordSet",
        "@id": "videos",
        "name": "videos",
        "description": f"The videos of the tars. {where_labels_are}",
        "key": {"@id": "videos/key"},
        "field": [
            {**_field("videos", "key", "sc:Text", "the key of the video"), "source": source | of_name},
            {
                **_field("videos", "video", "sc:VideoObject", "the bytes of the MP4 file"),
                "source": source | {"extract": {"fileProperty": "content"}},
            },
        ],
    }


def _field(record_set: str, name: str, data_type: str, description: str) -> Node:
    return {
        "@type": "cr:Field",
        "@id": f"{record_set}/{name}",
        "name": name,
        "description": description,
        "dataType": data_type,
    }
