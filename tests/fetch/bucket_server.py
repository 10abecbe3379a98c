"""A small S3 over HTTP: listing in pages, ranges, and the ways in which transfers go wrong."""

from __future__ import annotations

import hashlib
import threading
import time
from collections import Counter
from contextlib import contextmanager
from dataclasses import dataclass, field
from email.utils import formatdate
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import parse_qs, unquote, urlsplit
from xml.sax.saxutils import escape


@dataclass
class Bucket:
    """Objects by 'bucket/key', and what is wrong with them."""

    objects: dict[str, bytes]
    page: int = 4  # objects of a page of the list
    modified: float = 1_400_000_000.0
    cut: dict[str, int] = field(default_factory=dict)  # key -> how many times its transfer breaks off
    gone: set[str] = field(default_factory=set)  # listed, but not there
    garbled: dict[str, int] = field(default_factory=dict)  # key -> how many times other bytes come
    busy: int = 0  # how many requests are refused first
    no_ranges: bool = False
    rate: float = 0.0  # bytes per s of each transfer; 0: as fast as it can
    encrypted: bool = False  # objects under a key: their ETags look like checksums and are none
    etags: dict[str, str] = field(default_factory=dict)  # instead of the MD5
    lists: int = 0  # pages of lists that were asked for
    asked: Counter = field(default_factory=Counter)
    ranges: list[str] = field(default_factory=list)
    url: str = ""

    def etag(self, key: str) -> str:
        return self.etags.get(key) or hashlib.md5(self.objects[key]).hexdigest()

    def listing(self, bucket: str, query: dict[str, list[str]]) -> bytes:
        self.lists += 1
        prefix, start = query.get("prefix", [""])[0], query.get("start-after", [""])[0]
        keys = sorted(k.split("/", 1)[1] for k in self.objects if k.startswith(f"{bucket}/{prefix}"))
        left = [key for key in keys if key > start]
        page, more = left[: self.page], len(left) > self.page
        rows = "".join(
            f"<Contents><Key>{escape(key)}</Key><LastModified>2014-05-13T16:53:20.000Z</LastModified>"
            f'<ETag>"{self.etag(f"{bucket}/{key}")}"</ETag><Size>{len(self.objects[f"{bucket}/{key}"])}</Size></Contents>'
            for key in page
        )
        more = f"<IsTruncated>{str(more).lower()}</IsTruncated>"
        space = "http://s3.amazonaws.com/doc/2006-03-01/"
        return f'<?xml version="1.0"?><ListBucketResult xmlns="{space}">{more}{rows}</ListBucketResult>'.encode()


def _handler(bucket: Bucket) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def log_message(self, *_):
            pass

        def _answer(self, status: int, body: bytes = b"", *, length: int | None = None, **headers: str) -> None:
            self.send_response(status)
            for name, value in headers.items():
                self.send_header(name.replace("_", "-"), value)
            self.send_header("Content-Length", str(len(body) if length is None else length))
            self.end_headers()
            step = int(bucket.rate / 20) or len(body) or 1
            for start in range(0, len(body) if self.command != "HEAD" else 0, step):
                self.wfile.write(body[start : start + step])
                time.sleep(0.05 if bucket.rate else 0)

        def do_GET(self):
            if bucket.busy:
                bucket.busy -= 1
                return self._answer(503)
            parts = urlsplit(self.path)
            key = unquote(parts.path).lstrip("/")
            if "list-type=2" in parts.query:
                return self._answer(200, bucket.listing(key, parse_qs(parts.query)))
            bucket.asked[key] += self.command == "GET"
            if key not in bucket.objects or key in bucket.gone:
                return self._answer(404)
            body = bucket.objects[key]
            told = {"ETag": f'"{bucket.etag(key)}"', "Last_Modified": formatdate(bucket.modified, usegmt=True)}
            if bucket.encrypted:
                told["x_amz_server_side_encryption"] = "aws:kms"
            start = 0
            if "Range" in self.headers and not bucket.no_ranges:
                bucket.ranges.append(self.headers["Range"])
                start = int(self.headers["Range"].removeprefix("bytes=").rstrip("-"))
            if start and start >= len(body):
                return self._answer(416)
            rest = body[start:]
            if bucket.garbled.get(key, 0) and self.command == "GET":
                bucket.garbled[key] -= 1
                rest = bytes(255 - b for b in rest)
            if bucket.cut.get(key, 0) and self.command == "GET":
                bucket.cut[key] -= 1
                self._answer(206 if start else 200, rest[: max(1, len(rest) // 2)], length=len(rest), **told)
                self.close_connection = True
                return None
            return self._answer(206 if start else 200, rest, **told)

        do_HEAD = do_GET

    return Handler


@contextmanager
def serve(bucket: Bucket):
    """Serve a bucket on this machine; `bucket.url` is where."""
    server = ThreadingHTTPServer(("127.0.0.1", 0), _handler(bucket))
    thread = threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True)
    thread.start()
    bucket.url = f"http://127.0.0.1:{server.server_port}"
    try:
        yield bucket
    finally:
        server.shutdown()
        server.server_close()
