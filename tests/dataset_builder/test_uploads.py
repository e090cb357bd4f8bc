"""URIs that strangers wrote: nothing is opened that they may not lead to, and a server's misbehaviour is one reason."""

import os
import socket
import threading
import time
from collections import Counter
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import fsspec
import pytest

from dataset_builder import uploads, web
from dataset_builder.uploads import read_upload
from pipeline.video import VideoError

PRIVATE_NAMES = {  # what a name server of the attacker's answers
    "localhost": ["127.0.0.1"],
    "localtest.me": ["127.0.0.1"],
    "metadata.google.internal": ["169.254.169.254"],
    "mixed.example": ["93.184.216.34", "10.0.0.1"],
    "six.example": ["2606:2800:220:1:248:1893:25c8:1946", "fd00::1"],
    "mapped.example": ["::ffff:10.1.2.3"],
    "nat64.example": ["64:ff9b::a9fe:a9fe"],
    "6to4.example": ["2002:7f00:1::"],
    "multicast.example": ["224.0.0.251"],
    "any.example": ["0.0.0.0"],
}
PRIVATE_ADDRESSES = [
    *("127.0.0.1", "127.1.2.3", "0.0.0.0", "10.0.0.1", "10.255.255.254", "172.16.0.1", "172.31.255.1", "192.168.1.1"),
    *("169.254.169.254", "169.254.0.1", "100.64.0.1", "224.0.0.1", "239.255.255.250", "240.0.0.1", "255.255.255.255"),
    *("192.0.0.1", "192.0.2.1", "198.18.0.1", "198.51.100.7", "203.0.113.9"),
    *("[::1]", "[::]", "[fe80::1]", "[fc00::1]", "[fd12:3456::1]", "[ff02::1]", "[2001:db8::1]", "[100::1]"),
    *("[::ffff:127.0.0.1]", "[::ffff:169.254.169.254]", "[::ffff:7f00:1]", "[::ffff:a00:1]", "[2002:a9fe:a9fe::]"),
    *("[64:ff9b::7f00:1]", "[64:ff9b::169.254.169.254]", "[fe80::1%25eth0]"),
]
DISGUISES = [
    *("2130706433", "0x7f000001", "0x7F.0x0.0x0.0x1", "0177.0.0.1", "017700000001", "127.1", "127.0.1", "0", "0x0"),
    *("2852039166", "0xa9fea9fe", "0xA9.254.43518", "0251.0376.0251.0376", "169.254.43518", "1.2.3.4.5", "256.0.0.1"),
    *(
        "127.0.0.1.",
        "①②⑦.⓪.⓪.①",
        "127。0。0。1",
        "１２７.0.0.1",
        "00000177.0.0.1",
        "0x7f.1",
        "3232235777",
        "999999999999",
    ),
]
TRICKS = [
    "http://user:secret@example.com/x.mp4",
    "http://example.com@127.0.0.1/x.mp4",
    "http://127.0.0.1\\@example.com/x.mp4",
    "http://example.com\\@127.0.0.1/x.mp4",
    "http://example.com\t@127.0.0.1/x.mp4",
    "http://exa\nmple.com/x.mp4",
    "http://example.com/x.mp4\r\nHost: 127.0.0.1",
    "http://example.com /x.mp4",
    "http://\u202eexample.com/x.mp4",
    "http://exam\u200bple.com/x.mp4",
    "http:///x.mp4",
    "http://:80/x.mp4",
    "http://[::1/x.mp4",
    "http://example.com:0/x.mp4",
    "http://example.com:99999/x.mp4",
    "http://example.com:port/x.mp4",
    "http://[not-an-address]/x.mp4",
    "http://" + "a" * 300 + ".com/x.mp4",
    "http://..example.com/x.mp4",
    "https://%31%32%37.0.0.1:99999/",
]
SCHEMES = [
    "pipe://rm -rf",
    "ftp://127.0.0.1/x.mp4",
    "sftp://127.0.0.1/x.mp4",
    "ssh://127.0.0.1/x.mp4",
    "gopher://127.0.0.1:25/_HELO",
    "dict://127.0.0.1:11211/stats",
    "ldap://127.0.0.1/",
    "smb://127.0.0.1/share/x.mp4",
    "webhdfs://127.0.0.1:50070/x.mp4",
    "hdfs://169.254.169.254:80/x.mp4",
    "jar:http://127.0.0.1!/x.mp4",
    "data://text/plain,x",
    "github://owner:repo@main/x.mp4",
    "jupyter://127.0.0.1:8888/x.mp4",
    "dask://127.0.0.1/x.mp4",
    "cached://127.0.0.1/x.mp4",
    "reference://x",
    "simplecache::s3://bucket/x.mp4",
    "filecache::http://127.0.0.1/x.mp4",
    "zip://x.mp4::http://127.0.0.1/x.zip",
    "tar://x.mp4::s3://bucket/x.tar",
    "s3://bucket/x::http://127.0.0.1/",
    "simplecache::zip://x::http://127.0.0.1/",
    "reference::http://127.0.0.1/refs.json",
    "gs://bucket/x::pipe://y",
]
HOSTILE = [
    *(f"http://{host}/x.mp4" for host in (*PRIVATE_NAMES, *PRIVATE_ADDRESSES, *DISGUISES)),
    *(f"https://{host}:8443/latest/meta-data/" for host in PRIVATE_ADDRESSES[:8]),
    *TRICKS,
    *SCHEMES,
]


@pytest.fixture
def wire(monkeypatch):
    """No name but those of `PRIVATE_NAMES` and numbers resolves, and every connection is counted and refused."""
    connections = []
    real = socket.getaddrinfo

    def look_up(host, port, *rest, **options):
        if host in PRIVATE_NAMES:
            return [entry for address in PRIVATE_NAMES[host] for entry in real(address, port, *rest, **options)]
        if "." in host and host.rpartition(".")[2].isalpha():
            raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")
        return real(host, port, *rest, **{**options, "flags": socket.AI_NUMERICHOST})

    def connect(self, address):
        connections.append(address)
        raise ConnectionRefusedError

    monkeypatch.setattr(socket, "getaddrinfo", look_up)
    monkeypatch.setattr(socket.socket, "connect", connect)
    monkeypatch.setattr(uploads.time, "sleep", lambda _: None)
    return connections


def reason(uri: str, **options) -> str:
    with pytest.raises(VideoError) as error:
        read_upload(uri, **options)
    return error.value.reason


def test_hostile_urls_make_no_connection(wire):
    assert len(set(HOSTILE)) >= 100
    assert {uri: reason(uri) for uri in HOSTILE if reason(uri) not in ("refused_uri", "missing", "unreadable")} == {}
    assert wire == []


@pytest.mark.parametrize("uri", [f"http://{host}/x.mp4" for host in (*PRIVATE_NAMES, *PRIVATE_ADDRESSES, *DISGUISES)])
def test_addresses_that_are_not_public_are_refused(wire, uri):
    assert reason(uri) == "refused_uri"


@pytest.mark.parametrize("uri", SCHEMES)
def test_other_protocols_and_chains_are_refused(wire, uri):
    assert reason(uri) in {"refused_uri", "missing"}  # without "://" it is the name of a local file
    assert "://" not in uri or reason(uri) == "refused_uri"


def test_a_public_address_is_connected_to_at_the_address_that_was_checked(wire, monkeypatch):
    answers = [["93.184.216.34"], ["127.0.0.1"]]  # the name changes its mind after the check

    def look_up(host, port, *_, **__):
        return [
            (socket.AF_INET, socket.SOCK_STREAM, 6, "", (a, port))
            for a in (answers.pop(0) if host[0] > "9" else [host])
        ]

    monkeypatch.setattr(socket, "getaddrinfo", look_up)
    monkeypatch.setattr(uploads, "READ_ATTEMPTS", 1)
    assert reason("http://rebinding.example/x.mp4") == "unreadable"
    assert wire == [("93.184.216.34", 80)]
    assert reason("http://rebinding.example/x.mp4") == "refused_uri"
    assert len(wire) == 1


# ----------------------------------------------------------------------------------------------------- servers


@pytest.fixture
def serve(monkeypatch):
    """Start a server whose GET is the function given; returns its base URL."""
    servers = []
    monkeypatch.setattr(uploads.time, "sleep", lambda _: None)

    def start(answer: Callable[[BaseHTTPRequestHandler], None]) -> str:
        class Handler(BaseHTTPRequestHandler):
            def do_GET(self):
                answer(self)

            def log_message(self, *_):
                pass

        server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        server.daemon_threads = True
        servers.append(server)
        threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True).start()
        return f"http://127.0.0.1:{server.server_port}"

    yield start
    for server in servers:
        server.shutdown()
        server.server_close()


def send(handler, status=200, body=b"", **headers):
    handler.send_response(status)
    for name, value in {"Content_Length": len(body), **headers}.items():
        handler.send_header(name.replace("_", "-"), str(value))
    handler.end_headers()
    handler.wfile.write(body)


def test_a_body_comes_whole_and_the_path_is_encoded(serve):
    seen = []

    def answer(handler):
        seen.append((handler.path, handler.headers["Host"]))
        send(handler, body=bytes(range(256)) * 5000)

    base = serve(answer)
    assert read_upload(f"{base}/a%20b/ü.mp4?x=1&y=é", private_urls=True) == bytes(range(256)) * 5000
    assert seen == [("/a%20b/%C3%BC.mp4?x=1&y=%C3%A9", base.removeprefix("http://"))]
    assert reason(f"{base}/x.mp4") == "refused_uri"


def test_redirects_are_followed_by_the_same_rules(serve, monkeypatch):
    asked = Counter()

    def answer(handler):
        asked[handler.path] += 1
        targets = {"/near": "/x.mp4", "/far": "http://169.254.169.254/latest/meta-data/", "/loop": "/loop"}
        targets |= {"/file": "file:///etc/passwd", "/disguise": "http://2852039166/", "/nothing": ""}
        if handler.path == "/x.mp4":
            return send(handler, body=b"video")
        return send(handler, 302, Location=targets[handler.path])

    base = serve(answer)
    assert read_upload(f"{base}/near", private_urls=True) == b"video"
    assert reason(f"{base}/loop", private_urls=True) == "unreadable"
    assert asked["/loop"] == web.MAX_REDIRECTS + 1
    assert reason(f"{base}/file", private_urls=True) == "refused_uri"
    assert reason(f"{base}/disguise", private_urls=True) == "refused_uri"
    # As if the first server were a public one: only loopback is let through.
    monkeypatch.setattr(web, "is_public", lambda address: address.is_loopback)
    assert read_upload(f"{base}/near") == b"video"
    assert reason(f"{base}/far") == "refused_uri"


@pytest.mark.parametrize(
    ("status", "expected", "asked"),
    [(404, "missing", 1), (410, "missing", 1), (403, "unreadable", 1), (500, "unreadable", 3), (429, "unreadable", 3)],
)
def test_statuses_are_reasons_and_only_stumbles_are_tried_again(serve, status, expected, asked):
    count = []

    def answer(handler):
        count.append(1)
        send(handler, status)

    assert reason(serve(answer) + "/x.mp4", private_urls=True) == expected
    assert len(count) == asked


def test_a_server_that_stumbles_is_asked_again(serve):
    statuses = [500, 503, 200]
    base = serve(lambda handler: send(handler, statuses.pop(0), b"video"))
    assert read_upload(base + "/x.mp4", private_urls=True) == b"video"


def test_a_body_cut_short_is_not_taken_for_whole(serve):
    lengths = [10, 10, 5]
    base = serve(lambda handler: send(handler, body=b"video", Content_Length=lengths.pop(0)))
    assert read_upload(base + "/x.mp4", private_urls=True) == b"video"


def test_a_site_may_opt_out(serve):
    base = serve(lambda handler: send(handler, body=b"video", X_Robots_Tag="otherbot: noindex, noai"))
    assert reason(base + "/x.mp4", private_urls=True) == "opted_out"


def test_a_large_body_is_refused_before_and_while_it_comes(serve, monkeypatch):
    monkeypatch.setattr(uploads, "MAX_REMOTE_BYTES", 1 << 20)
    sent = []

    def endless(handler):
        handler.send_response(200)
        handler.end_headers()
        while True:  # until the reader hangs up
            handler.wfile.write(bytes(1 << 16))
            sent.append(1)

    assert reason(serve(lambda handler: send(handler, Content_Length=2 << 20)) + "/", private_urls=True) == "too_large"
    assert reason(serve(endless) + "/", private_urls=True) == "too_large"
    assert len(sent) < 1000


@pytest.mark.parametrize("part", ["header", "body"])
def test_an_answer_that_trickles_in_ends(serve, monkeypatch, part):
    monkeypatch.setattr(web, "TOTAL_TIMEOUT_S", 0.3)
    done, asked = threading.Event(), []

    def trickle(handler):
        asked.append(1)
        handler.wfile.write(b"HTTP/1.0 200 OK\r\n" + (b"\r\n" if part == "body" else b"X: "))
        while not done.wait(0.05):
            handler.wfile.write(b"x")

    try:
        assert reason(serve(trickle) + "/", private_urls=True) == "unreadable"
    finally:
        done.set()
    assert len(asked) == 1  # a shard of such URLs must end some day: no second try


def test_a_name_with_hundreds_of_dead_addresses_ends(monkeypatch):
    monkeypatch.setattr(web, "TOTAL_TIMEOUT_S", 0.2)
    monkeypatch.setattr(web, "public_addresses", lambda *a: [f"93.184.{i}.34" for i in range(250)])
    waits = []

    def connect(address, timeout):
        waits.append(timeout)
        time.sleep(0.02)
        raise TimeoutError("timed out")

    monkeypatch.setattr(socket, "create_connection", connect)
    assert reason("http://many.example/x.mp4") == "unreadable"
    assert len(waits) <= 10
    assert max(waits) <= 0.2


def test_a_silent_server_ends(serve, monkeypatch):
    monkeypatch.setattr(web, "READ_TIMEOUT_S", 0.1)
    monkeypatch.setattr(uploads, "READ_ATTEMPTS", 2)
    done, asked = threading.Event(), []
    base = serve(lambda handler: (asked.append(1), done.wait(5)))
    assert reason(base + "/", private_urls=True) == "unreadable"
    done.set()
    assert len(asked) == 2


# ------------------------------------------------------------------------------------------- files and stores


def test_local_files_must_be_regular_and_of_bearable_size(tmp_path, monkeypatch):
    monkeypatch.setattr(uploads, "MAX_LOCAL_BYTES", 1000)
    (tmp_path / "video.mp4").write_bytes(b"video")
    (tmp_path / "large.mp4").write_bytes(bytes(1001))
    os.mkfifo(tmp_path / "fifo.mp4")
    assert read_upload(str(tmp_path / "video.mp4")) == b"video"
    assert read_upload(f"file://{tmp_path}/video.mp4") == b"video"
    assert reason(str(tmp_path / "large.mp4")) == "too_large"
    assert reason(str(tmp_path / "fifo.mp4")) == "unreadable"
    assert reason("/dev/zero") == "unreadable"
    assert reason(str(tmp_path)) == "unreadable"
    assert reason(str(tmp_path / "gone.mp4")) == "missing"
    assert reason(str(tmp_path / "nul\0.mp4")) == "unreadable"
    assert reason(str(tmp_path / ("x" * 5000))) == "unreadable"


def test_objects_of_a_store_are_measured_before_they_are_read(monkeypatch):
    monkeypatch.setattr(uploads, "MAX_REMOTE_BYTES", 1000)
    store = fsspec.filesystem("memory")
    store.pipe_file("/uploads/video.mp4", b"video")
    store.pipe_file("/uploads/large.mp4", bytes(1001))
    assert read_upload("memory://uploads/video.mp4") == b"video"
    assert reason("memory://uploads/large.mp4") == "too_large"
    assert reason("memory://uploads/gone.mp4") == "missing"


def test_a_stumbling_store_is_asked_again(monkeypatch):
    answers = [ConnectionError("reset"), b"data"]

    def stumble(_):
        answer = answers.pop(0)
        if isinstance(answer, Exception):
            raise answer
        return answer

    monkeypatch.setattr(uploads, "_read_store", stumble)
    monkeypatch.setattr(uploads.time, "sleep", lambda _: None)
    assert read_upload("s3://bucket/x.mp4") == b"data"
    answers += [ConnectionError("reset")] * 3
    assert reason("s3://bucket/x.mp4") == "unreadable"
