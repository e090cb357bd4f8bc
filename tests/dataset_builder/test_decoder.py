"""The process that decodes: what comes back is what `transcode` gives, and nothing that happens in it reaches its parent."""

import contextlib
import os
import signal
import subprocess
import sys
import textwrap
import threading
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from dataset_builder import decoder
from dataset_builder.decoder import Decoder
from dataset_builder.transcode import Request, transcode
from dedup import census
from pipeline import video
from pipeline.video import VideoError
from tests.dataset_builder.small_world import TINY_STORAGE, write_mp4
from tests.patience import PATIENCE_S

REQUEST = Request("id", TINY_STORAGE, start_s=0.1)


@pytest.fixture
def clip(tmp_path):
    write_mp4(tmp_path / "clip.mp4", num_frames=30, fps=15)
    return (tmp_path / "clip.mp4").read_bytes()


@pytest.fixture
def child():
    child = Decoder(timeout_s=PATIENCE_S, memory_mb=1024)
    yield child
    child.close()


@pytest.fixture
def bad_child(monkeypatch, tmp_path):
    """A decoder whose child runs the given line instead of decoding what begins with b"bad"."""

    def make(line: str, **limits) -> Decoder:
        script = f"""
            import os, signal, sys, time
            from dataset_builder import decoder
            whole = decoder.transcode
            def transcode(data, request):
                if data.startswith(b"bad"):
                    {line}
                return whole(data, request)
            decoder.transcode = transcode
            decoder.serve(int(sys.argv[1]), float(sys.argv[2]), int(sys.argv[3]))
        """
        (tmp_path / "bad_decoder.py").write_text(textwrap.dedent(script))
        monkeypatch.setattr(decoder, "MODULE", "bad_decoder")
        monkeypatch.syspath_prepend(str(tmp_path))
        made.append(Decoder(**{"timeout_s": PATIENCE_S, "memory_mb": 1024, **limits}))
        return made[-1]

    made: list[Decoder] = []
    yield make
    for child in made:
        child.close()


def reason(child: Decoder, data: bytes) -> str:
    with pytest.raises(VideoError) as error:
        child.decode(data, REQUEST)
    return error.value.reason


def same(a, b) -> bool:
    rows = [census.signature_row("id", stored.signature) for stored in (a, b)]
    return rows[0] == rows[1] and replace(a, signature=None) == replace(b, signature=None)


@pytest.mark.parametrize("of_target", [False, True])
def test_the_answer_is_that_of_transcode(child, clip, of_target):
    request = replace(REQUEST, of_target=of_target)
    answer = child.decode(clip, request)
    assert same(answer, transcode(clip, request))
    assert bool(answer.signature.crops) == of_target
    assert child.decode(clip, REQUEST).signature.codes256.shape[1] == 4
    assert reason(child, b"") == "empty"
    assert reason(child, b"<html>" * 1000) == "not_a_video"


def test_one_child_serves_many_requests(child, clip):
    pids = set()
    for data in (clip, b"x", clip, b"", clip):
        with contextlib.suppress(VideoError):
            child.decode(data, REQUEST)
        pids.add(child.process_id)
    assert len(pids) == 1


@pytest.mark.parametrize(
    ("line", "limits", "expected"),
    [
        ("os.kill(os.getpid(), signal.SIGSEGV)", {}, "crashed"),
        ("os._exit(0)", {}, "crashed"),
        ("signal.signal(signal.SIGTERM, signal.SIG_IGN); time.sleep(60)", {"timeout_s": 2.0}, "timeout"),
        ("raise MemoryError", {}, "out_of_memory"),
        ("bytearray(2 << 30)", {}, "out_of_memory"),
    ],
)
def test_a_child_that_dies_or_hangs_is_a_reason_and_the_next_one_works(bad_child, clip, line, limits, expected):
    child = bad_child(line, **limits)
    assert reason(child, b"bad") == expected
    gone = child.process_id
    assert gone is None
    assert same(child.decode(clip, REQUEST), transcode(clip, REQUEST))


def test_cpu_time_is_limited():
    script = "from dataset_builder import decoder\ndecoder._limit_cpu(0.0)\nwhile True: pass"
    assert subprocess.run([sys.executable, "-c", script], timeout=PATIENCE_S, check=False).returncode == -signal.SIGXCPU


def test_a_child_that_the_system_kills_is_replaced_and_the_upload_tried_again(child, clip):
    child.decode(clip, REQUEST)
    real, killed = decoder._exchange, []

    def exchange(process, *rest):
        if not killed:
            killed.append(process.pid)
            process.kill()
            process.wait()
        return real(process, *rest)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(decoder, "_exchange", exchange)
        assert same(child.decode(clip, REQUEST), transcode(clip, REQUEST))
    assert killed
    assert child.process_id not in killed


def test_an_upload_larger_than_the_childs_memory_is_a_reason(clip):
    child = Decoder(timeout_s=PATIENCE_S, memory_mb=512)
    assert reason(child, bytes(300 << 20)) == "out_of_memory"
    assert same(child.decode(clip, REQUEST), transcode(clip, REQUEST))
    child.close()


def test_no_zombie_stays(bad_child):
    child = bad_child("os._exit(0)")
    for _ in range(2):
        assert reason(child, b"bad") == "crashed"
    children = [pid for path in Path("/proc/self/task").glob("*/children") for pid in path.read_text().split()]
    assert [pid for pid in children if _state(int(pid)) == "Z"] == []


def test_the_child_ignores_interrupts(child, clip):
    child.decode(clip, REQUEST)
    os.kill(child.process_id, signal.SIGINT)
    before = child.process_id
    child.decode(clip, REQUEST)
    assert child.process_id == before


def test_the_child_dies_with_its_parent_even_in_the_middle_of_a_request():
    script = """
        import sys
        from dataset_builder import decoder
        child = decoder.Decoder(timeout_s=60.0, memory_mb=1024)
        child._running()
        print(child.process_id, flush=True)
        child._child.stdin.write(b"\\xff")  # the child waits for the rest of a request
        sys.stdin.read()
    """
    parent = subprocess.Popen(
        [sys.executable, "-c", textwrap.dedent(script)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    pid = int(parent.stdout.readline())
    parent.kill()
    parent.wait()
    deadline = time.monotonic() + PATIENCE_S
    while os.path.exists(f"/proc/{pid}/stat") and _state(pid) != "Z" and time.monotonic() < deadline:
        time.sleep(0.02)
    assert not os.path.exists(f"/proc/{pid}/stat") or _state(pid) == "Z"  # an orphan's zombie is its new parent's
    parent.stdin.close()
    parent.stdout.close()


def _state(pid: int) -> str:
    try:
        with open(f"/proc/{pid}/stat") as file:
            return file.read().rpartition(")")[2].split()[0]
    except FileNotFoundError:
        return "Z"


def test_threads_take_turns(child, clip):
    expected, results = transcode(clip, REQUEST), []

    def work() -> None:
        results.append(child.decode(clip, REQUEST))

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert [same(result, expected) for result in results] == [True] * 4


def test_what_the_child_prints_does_not_get_between_the_answers(bad_child, clip):
    child = bad_child("print('noise'); os.write(1, b'noise')")
    assert reason(child, b"bad but printed") == "not_a_video"
    assert len(video.read_video(child.decode(clip, REQUEST).mp4)) == child.decode(clip, REQUEST).num_frames
    assert np.asarray(child.decode(clip, REQUEST).signature.quality).dtype == np.uint8
