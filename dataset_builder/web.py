"""http(s) → bytes, for URLs that strangers wrote: a public address, checked before every connection, and limits on the rest.

A host's name is resolved once per hop, every address it has must be public, and the connection is made to the address that
was checked (so that the name cannot change its mind in between). Redirects are followed by the same rules. Proxies and
credentials in URLs are not used.
"""

from __future__ import annotations

import contextlib
import errno
import http.client
import ipaddress
import re
import socket
import ssl
import threading
import time
from functools import cache
from urllib.parse import SplitResult, quote, urljoin, urlsplit

from pipeline.video import VideoError

MAX_REDIRECTS = 5
CONNECT_TIMEOUT_S, READ_TIMEOUT_S, TOTAL_TIMEOUT_S = 10.0, 30.0, 300.0
CHUNK = 1 << 20
HOPELESS = frozenset((errno.ELOOP, errno.ENAMETOOLONG, errno.ENOTDIR))  # errors that another try does not cure
REDIRECTS, GONE, REFUSED = (301, 302, 303, 307, 308), (404, 410), (400, 401, 402, 403, 405, 406, 451)
NAT64 = ipaddress.ip_network("64:ff9b::/96")
OPT_OUT = frozenset(("noai", "noimageai"))  # directives of X-Robots-Tag by which a site keeps its media out of training
UNSAFE = re.compile(r"[\x00-\x20\x7f-\x9f\\\u200b-\u200f\u202a-\u202e\u2066-\u2069]")
IN_TARGET = "/%:@!$&'()*+,;=~-._?[]"  # what stands in a request as it is; the rest is percent-encoded
NUMBER = re.compile(r"\d+|0[xX][0-9a-fA-F]*")

Address = ipaddress.IPv4Address | ipaddress.IPv6Address


class WebError(OSError):
    """The server or the way to it failed; another try may do."""


def get(url: str, *, max_bytes: int, private: bool = False) -> bytes:
    """The body behind a URL.

    Args:
        max_bytes: limit of the body.
        private: also connect to addresses that are not public.

    Raises: VideoError refused_uri | missing | unreadable | too_large | opted_out; WebError where another try may do.
    """
    deadline = time.monotonic() + TOTAL_TIMEOUT_S
    for _ in range(MAX_REDIRECTS + 1):
        parts = checked_url(url)
        connection = _connection(parts, private, deadline)
        # Time-outs of a socket begin anew with every byte: only this ends an answer that trickles in for ever.
        guard = threading.Timer(max(0.0, deadline - time.monotonic()), _cut, [connection.sock])
        guard.start()
        try:
            answer = _request(connection, parts)
            if answer.status not in REDIRECTS:
                body = _body(answer, max_bytes)
                _check_time(deadline)  # after it, the end may be that of the guard
                return body
            url = urljoin(url, answer.getheader("Location", ""))
        except (http.client.HTTPException, OSError) as error:
            _check_time(deadline)
            raise error if isinstance(error, WebError) else WebError(f"{type(error).__name__}: {error}") from error
        finally:
            guard.cancel()
            connection.close()
    raise VideoError("unreadable", f"more than {MAX_REDIRECTS} redirects")


def _check_time(deadline: float) -> float:
    """Seconds left; VideoError when there are none, because a server that was so slow is not asked again."""
    left_s = deadline - time.monotonic()
    if left_s <= 0:
        raise VideoError("unreadable", f"not there after {TOTAL_TIMEOUT_S:g} s")
    return left_s


# ----------------------------------------------------------------------------------------------------- the URL


def checked_url(url: str) -> SplitResult:
    """Parts of an http(s) URL without tricks; VideoError `refused_uri` for any other."""
    if UNSAFE.search(url):
        raise VideoError("refused_uri", "characters that no URL has")
    try:
        parts = urlsplit(url)
        host, port = _ascii(parts.hostname or ""), parts.port
    except ValueError as error:  # UnicodeError is one
        raise VideoError("refused_uri", str(error)) from error
    if parts.scheme not in ("http", "https") or not host or port == 0 or {"@", "%"} & {*parts.netloc}:
        raise VideoError("refused_uri", "not an http(s) URL of a host alone")
    _check_spelling(host)
    return parts


def _ascii(host: str) -> str:
    """The name as DNS knows it: other scripts, and look-alikes of digits and dots, become ASCII."""
    return host if ":" in host else host.encode("idna").decode().rstrip(".").lower()


def _check_spelling(host: str) -> None:
    """A host whose last part is a number is an IPv4 address, and must be written as one (not 0x7f.1 or 2130706433)."""
    if ":" not in host and NUMBER.fullmatch(host.rpartition(".")[2]):
        try:
            ipaddress.IPv4Address(host)
        except ValueError as error:
            raise VideoError("refused_uri", "an address in disguise") from error


# ------------------------------------------------------------------------------------------------- the address


def public_addresses(host: str, port: int, private: bool) -> list[str]:
    """Addresses of a host. VideoError `refused_uri` when one of them is not public, unless `private`."""
    try:
        found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    except socket.gaierror as error:
        if error.errno == socket.EAI_NONAME:
            raise VideoError("missing", f"no such host: {host[:100]}") from error
        raise WebError(str(error)) from error
    addresses = list(dict.fromkeys(str(entry[4][0]) for entry in found))
    if not private and not all(is_public(ipaddress.ip_address(address)) for address in addresses):
        raise VideoError("refused_uri", "an address that is not public (--execution.private-urls would allow it)")
    return addresses


def is_public(address: Address) -> bool:
    """Whether an address, and the IPv4 address that it may carry inside, can be reached by everybody."""
    if isinstance(address, ipaddress.IPv6Address):
        inner = address.ipv4_mapped or address.sixtofour
        if address in NAT64:
            inner = ipaddress.IPv4Address(int(address) & 0xFFFFFFFF)
        if inner is not None:
            return is_public(inner)
    return address.is_global and not (address.is_multicast or address.is_reserved or address.is_unspecified)


# ---------------------------------------------------------------------------------------------------- the wire


def _connection(parts: SplitResult, private: bool, deadline: float) -> http.client.HTTPConnection:
    """A connection, already open, to an address that was checked."""
    is_tls = parts.scheme == "https"
    host, port = _ascii(parts.hostname), parts.port or (443 if is_tls else 80)
    plain = _open_socket(public_addresses(host, port, private), port, deadline)
    plain.settimeout(READ_TIMEOUT_S)
    if not is_tls:
        connection = http.client.HTTPConnection(host, port)
        connection.sock = plain
        return connection
    connection = http.client.HTTPSConnection(host, port, context=_tls())
    connection.sock = _tls().wrap_socket(plain, server_hostname=host, do_handshake_on_connect=False)
    return connection


def _open_socket(addresses: list[str], port: int, deadline: float) -> socket.socket:
    failures = []
    for address in addresses:  # of which a hostile name server may give hundreds
        timeout_s = min(CONNECT_TIMEOUT_S, _check_time(deadline))
        try:
            return socket.create_connection((address, port), timeout=timeout_s)
        except OSError as error:
            failures.append(error)
    raise WebError(str(failures[-1])) from failures[-1]


@cache
def _tls() -> ssl.SSLContext:
    return ssl.create_default_context()


def _cut(connected: socket.socket) -> None:
    """End a connection under whoever waits for it."""
    with contextlib.suppress(OSError):
        socket.socket.shutdown(connected, socket.SHUT_RDWR)  # not SSLSocket's own, which would go on in plain text


def _request(connection: http.client.HTTPConnection, parts: SplitResult) -> http.client.HTTPResponse:
    if isinstance(connection.sock, ssl.SSLSocket):
        connection.sock.do_handshake()
    target = quote((parts.path or "/") + (f"?{parts.query}" if parts.query else ""), safe=IN_TARGET)
    headers = {"User-Agent": "tagreel", "Accept-Encoding": "identity", "Connection": "close"}
    connection.request("GET", target, headers=headers)
    return connection.getresponse()


def _body(answer: http.client.HTTPResponse, max_bytes: int) -> bytes:
    if answer.status in GONE:
        raise VideoError("missing", f"status {answer.status}")
    if answer.status in REFUSED:
        raise VideoError("unreadable", f"status {answer.status}")
    if answer.status != 200:
        raise WebError(f"status {answer.status}")
    directives = re.split(r"[,:\s]+", " ".join(answer.headers.get_all("X-Robots-Tag", [])).lower())
    if OPT_OUT.intersection(directives):
        raise VideoError("opted_out", "X-Robots-Tag")
    expected, parts, size = answer.length, [], 0
    if (expected or 0) > max_bytes:
        raise VideoError("too_large", f"{expected:,} bytes, limit {max_bytes:,}")
    while part := answer.read1(CHUNK):
        parts.append(part)
        size += len(part)
        if size > max_bytes:
            raise VideoError("too_large", f"more than {max_bytes:,} bytes")
    if expected is not None and size != expected:
        raise WebError(f"{size} of {expected} bytes came")
    return b"".join(parts)
