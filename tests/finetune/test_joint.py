"""Actions from a verb and a noun model: places among products, by hand; parts, and what does not fit."""

import shutil
from dataclasses import replace

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from finetune import actions, joint
from finetune.metrics import average_precisions, top_k_correct
from pipeline import artifacts, storage, sweeps
from pipeline import config as configs
from pipeline.artifacts import TransferFiles
from pipeline.config import ConfigError, JointConfig
from pipeline.launch import graph
from pipeline.launch.states import is_finished

VERBS, NOUNS = ["take", "put", "put down"], ["pan", "cup of tea"]
ACTIONS = ["take pan", "put down cup of tea", "put pan"]
ROWS = {  # key → probabilities of the verbs, of the nouns, the true verb, the true noun
    # products: take 0.30 0.20, put 0.18 0.12, put down 0.12 0.08
    "first": ([0.5, 0.3, 0.2], [0.6, 0.4], 0, 0),  # the highest product
    "second": ([0.5, 0.3, 0.2], [0.6, 0.4], 1, 0),  # third of six, after take pan and take cup of tea
    "third": ([0.5, 0.3, 0.2], [0.6, 0.4], 2, 1),  # the lowest of six
}


@pytest.fixture
def results(tmp_path):
    """Results of a verb and a noun model on three segments, two of them of a participant with training segments."""
    for kind, labels, column in (("verb", VERBS, 0), ("noun", NOUNS, 1)):
        files = TransferFiles(f"{tmp_path}/{kind}")
        rows = [
            {"key": key, "seed": 0, "labels": [row[2 + column]], "scores": row[column]} for key, row in ROWS.items()
        ]
        rows.append({"key": "lost", "seed": 0, "labels": [0], "reason": "decode_error"})
        if kind == "verb":
            rows.append({"key": "only here", "seed": 0, "labels": [0], "scores": [1.0, 0.0, 0.0]})
        storage.write_parquet(files.predictions, pa.Table.from_pylist(rows, artifacts.PREDICTIONS))
        content = {"labels": labels, "metrics": {"headline": {"name": "top1"}}, "config": {"target": f"epic-{kind}"}}
        storage.write_json(files.marker, {"digest": kind, "seeds": [0], **content})
    groups = {"train": {"t": "P01"}, "test": {"first": "P01", "second": "P01", "third": "P09"}}
    for part, group_of in groups.items():
        manifest = pa.table({"video_id": list(group_of), "group": list(group_of.values())})
        folder = artifacts.target_files(str(tmp_path), "epic-verb", part).manifest
        storage.write_parquet(f"{folder}/part-00000.parquet", manifest)
    target = {"labels": [{"name": name} for name in ACTIONS], "digest": "actions"}
    storage.write_json(artifacts.target_files(str(tmp_path), "epic-action", "test").marker, target)
    return JointConfig(root=str(tmp_path), verb=f"{tmp_path}/verb", noun=f"{tmp_path}/noun/result.json")


def test_every_verb_with_every_noun(results, tmp_path):
    found = joint.joint(JointConfig(**{**vars(results), "to": f"{tmp_path}/joint.json"}))
    parts = found["parts"]
    assert found["num_candidates"] == 6
    assert parts["all"]["action"]["top1"] == pytest.approx(1 / 3)
    assert parts["all"]["action"]["top5"] == pytest.approx(2 / 3)  # the third is sixth
    assert parts["all"]["verb"]["top1"] == pytest.approx(1 / 3)
    assert parts["all"]["noun"]["top1"] == pytest.approx(2 / 3)
    assert (parts["seen"]["num_segments"], parts["unseen"]["num_segments"]) == (2, 1)
    assert (parts["seen"]["action"]["top1"], parts["unseen"]["action"]["top5"]) == (0.5, 0.0)
    assert found["counts"] == {"segments": 5, "scored": 3, "dropped": {"decode_error": 1, "in_one_result_only": 1}}
    assert storage.read_json(f"{tmp_path}/joint.json") == found


def test_the_result_reads_as_that_of_a_transfer_to_actions(results):
    """All segments score alike: the average precision of an action is its share; classes are the actions that there are."""
    found = joint.joint(results)
    metrics = found["metrics"]
    assert metrics["headline"] == {"name": "top1", "value": metrics["top1"], "interval": metrics["top1_interval"]}
    assert (metrics["num_videos"], metrics["num_undecodable"]) == (3, 2)
    assert metrics["map"] == pytest.approx(1 / 3)
    assert metrics["mean_class_accuracy"] == pytest.approx(1 / 3)
    per_class = {name: (own["accuracy"], own["num_videos"]) for name, own in metrics["per_class"].items()}
    assert per_class == {"take pan": (1.0, 1), "put pan": (0.0, 1), "put down cup of tea": (0.0, 1)}
    assert found["input_digests"] == {"verb": "verb", "noun": "noun"}
    sealed = {key: value for key, value in found.items() if key != "digest"}
    assert found["digest"] == configs.digest(sealed)


def test_the_actions_of_a_target_compete_alone(results):
    found = joint.joint(JointConfig(**{**vars(results), "target": "epic-action", "candidates": "target"}))
    # "put pan" is second and "put down cup of tea" third of three
    assert found["num_candidates"] == 3
    assert found["metrics"]["top5"] == 1.0
    assert found["metrics"]["top1"] == pytest.approx(1 / 3)
    assert found["input_digests"] == {"verb": "verb", "noun": "noun", "target": "actions"}


def place(scores: np.ndarray, labels: np.ndarray) -> int:
    """The first segment's, from 1; 6 beyond the first five."""
    return next((k for k in range(1, 6) if top_k_correct(scores[:1], labels[:1], k)[0]), 6)


def test_places_by_hand():
    verbs, nouns = np.array([[0.5, 0.3, 0.2]]), np.array([[0.6, 0.4]])
    pairs = actions.all_pairs(3, 2)

    def found(verb: int, noun: int, among: np.ndarray = pairs) -> int:
        return place(*actions.action_scores(verbs, nouns, np.array([verb]), np.array([noun]), among)[:2])

    assert [found(v, n) for v in range(3) for n in range(2)] == [1, 2, 3, 5, 5, 6]  # 0.12 twice: both count as fifth
    assert found(1, 0, np.array([[0, 0], [1, 1]])) == 6  # not a candidate


@settings(max_examples=50)
@given(seed=st.integers(0, 99), num_verbs=st.integers(2, 5), num_nouns=st.integers(1, 4))
def test_five_others_tell_what_all_would(seed, num_verbs, num_nouns):
    """Against the plain matrix of every product: same places, and same average precisions of the actions that there are."""
    rng = np.random.default_rng(seed)
    verbs, nouns = (np.round(rng.random((12, n)), 1) for n in (num_verbs, num_nouns))  # with ties
    verb_ids, noun_ids = rng.integers(0, num_verbs, 12), rng.integers(0, num_nouns, 12)
    plain = (verbs[:, :, None] * nouns[:, None, :]).reshape(12, -1)
    ids = verb_ids * num_nouns + noun_ids
    scores, labels, own = actions.action_scores(
        verbs, nouns, verb_ids, noun_ids, actions.all_pairs(num_verbs, num_nouns)
    )
    for k in (1, 2, 5):
        assert top_k_correct(scores, labels, k).tolist() == top_k_correct(plain, ids, k).tolist()
    columns = own[:, 0] * num_nouns + own[:, 1]
    assert average_precisions(scores, labels)[: len(own)] == pytest.approx(average_precisions(plain, ids)[columns])


probabilities = st.integers(1, 5).flatmap(
    lambda n: arrays.arrays(np.float64, st.tuples(st.just(n), st.integers(2, 5)), elements=st.floats(0, 1))
)


@given(verbs=probabilities, seed=st.integers(0, 9))
def test_an_action_is_first_exactly_when_its_verb_and_noun_are(verbs, seed):
    rng = np.random.default_rng(seed)
    nouns = rng.random((len(verbs), 4)) + 0.1
    verbs = verbs + np.linspace(0.1, 0.2, verbs.shape[1])
    ids = rng.integers(0, verbs.shape[1], len(verbs)), rng.integers(0, 4, len(verbs))
    scores, labels, _ = actions.action_scores(verbs, nouns, *ids, actions.all_pairs(verbs.shape[1], 4))
    first = top_k_correct(scores, labels, 1)
    both = [top_k_correct(scores, label_ids, 1) for scores, label_ids in zip((verbs, nouns), ids, strict=True)]
    assert first.tolist() == (both[0] & both[1]).tolist()


def test_names_are_taken_apart_whatever_stands_between():
    for name in ("put down pan", "put down: pan", "put down_pan"):
        assert actions.split_action(name, VERBS, NOUNS) == (2, 0)
    assert actions.split_action("put cup of tea", VERBS, NOUNS) == (1, 1)
    assert actions.split_action("putpan", VERBS, NOUNS) is None
    assert actions.split_action("wash pan", VERBS, NOUNS) is None
    assert actions.split_action("put a b", ["put", "put a"], ["b", "a b"]) is None  # two ways


def test_what_does_not_fit_is_named(results, tmp_path):
    with pytest.raises(ConfigError, match="--verb"):
        joint.joint(JointConfig(noun=results.noun))
    with pytest.raises(ConfigError, match="needs --target"):
        joint.joint(JointConfig(**{**vars(results), "candidates": "target"}))
    marker = storage.read_json(f"{results.verb}/result.json")
    storage.write_json(f"{results.verb}/result.json", {**marker, "labels": ["take", "put", "wash"]})
    with pytest.raises(ConfigError, match=r"1 of the 3 labels of target 'epic-action'.*'put down cup of tea'"):
        joint.joint(JointConfig(**{**vars(results), "target": "epic-action", "candidates": "target"}))
    storage.write_json(f"{results.verb}/result.json", {**marker, "seeds": [0, 1]})
    with pytest.raises(ConfigError, match="2 trainings"):
        joint.joint(results)
    other = TransferFiles(f"{tmp_path}/other")
    row = {"key": "elsewhere", "seed": 0, "labels": [0], "scores": [1.0, 0.0]}
    storage.write_parquet(other.predictions, pa.Table.from_pylist([row], artifacts.PREDICTIONS))
    storage.write_json(other.marker, {**marker, "labels": NOUNS})
    with pytest.raises(ConfigError, match="no test segment in common"):
        joint.joint(JointConfig(**{**vars(results), "verb": results.noun, "noun": other.folder}))


def test_results_without_one_label_and_scores_a_segment_are_refused(results):
    files = TransferFiles(results.verb)
    marker = storage.read_json(files.marker)
    storage.write_json(files.marker, marker | {"metrics": {"headline": {"name": "map"}}})
    with pytest.raises(ConfigError, match="several labels each"):
        joint.joint(results)
    storage.write_json(files.marker, marker | {"config": {"protocol": "few_shot"}})
    storage.remove(files.predictions)
    with pytest.raises(ConfigError, match="few_shot keeps no predictions"):
        joint.joint(results)


def test_as_a_stage_of_a_sweep_it_is_finished_until_a_result_changes(results, tmp_path):
    config = replace(sweeps.scaled("epic", "tiny"), root=str(tmp_path / "root"), views=("plain",))
    plan = sweeps.plan(config)
    point = next(point for point in plan.points if point.stage.kind == "joint")
    for played, name in zip((results.verb, f"{tmp_path}/noun"), point.stage.needs, strict=True):
        folder = artifacts.transfer_files(plan.stage(name).config).folder
        shutil.copytree(played, folder)
    assert not is_finished(point.stage, plan)
    joint.joint(point.stage.config)
    assert is_finished(point.stage, plan)
    written = storage.read_json(graph.marker(point.stage))
    assert written["metrics"]["top1"] == pytest.approx(1 / 3)
    noun = artifacts.transfer_files(plan.stage(point.stage.needs[1]).config).marker
    storage.write_json(noun, storage.read_json(noun) | {"digest": "another"})
    assert not is_finished(point.stage, plan)
