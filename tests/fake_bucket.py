"""Google Cloud Storage on this machine: the part of its JSON API that gcsfs and TensorStore use."""

from __future__ import annotations

import http.server
import json
import re
import threading
import urllib.parse
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

BUCKET = "tests"
URL = f"gs://{BUCKET}"


@dataclass(frozen=True)
class Stored:
    """An object: its bytes, and the number that every write raises."""

    data: bytes
    generation: int


class FakeBucket:
    """A server with the one bucket ``gs://tests``.

    Attributes:
      objects: by name inside the bucket.
      refused: kinds of requests that are answered with 403: read, write, delete, list.
      calls: every request, such as ``write run/config.json``.
    """

    def __init__(self) -> None:
        self.objects: dict[str, Stored] = {}
        self.refused: set[str] = set()
        self.calls: list[str] = []
        self.lock = threading.Lock()
        self._uploads: dict[str, tuple[str, bytearray]] = {}
        self._generation = 0

    def __enter__(self) -> FakeBucket:
        handler = type("Bound", (_Handler,), {"bucket": self})
        self._server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler)
        self._server.daemon_threads = True
        threading.Thread(target=self._server.serve_forever, daemon=True).start()
        return self

    def __exit__(self, *error: object) -> None:
        self._server.shutdown()
        self._server.server_close()

    def environment(self) -> dict[str, str]:
        """The variables by which gcsfs, Google's own client and TensorStore find this server."""
        url = f"http://127.0.0.1:{self._server.server_address[1]}"
        return {
            "STORAGE_EMULATOR_HOST": url,
            "TENSORSTORE_GCS_HTTP_URL": url,
            "GOOGLE_AUTH_TOKEN_FOR_TESTING": "none",
        }

    def put(self, name: str, data: bytes, match: str | None = None) -> Stored | None:
        """Write an object; None if it is not of the generation that ``match`` asks for."""
        with self.lock:
            before = self.objects.get(name)
            if match is not None and int(match) != (before.generation if before else 0):
                return None
            self._generation += 1
            self.objects[name] = Stored(data, self._generation)
            return self.objects[name]

    def names(self, prefix: str = "") -> list[str]:
        """Names of the objects that begin with ``prefix``, in order."""
        with self.lock:
            return sorted(name for name in self.objects if name.startswith(prefix))

    def begin(self, name: str) -> str:
        """Begin an upload in parts; its number."""
        with self.lock:
            number = str(len(self._uploads))
            self._uploads[number] = name, bytearray()
        return number

    def add(self, number: str, data: bytes) -> tuple[str, bytearray]:
        """Take a part of an upload; its object's name and all that came."""
        self._uploads[number][1].extend(data)
        return self._uploads[number]


def described(name: str, stored: Stored) -> dict[str, Any]:
    """What the API says of an object."""
    return {
        "kind": "storage#object", "name": name, "bucket": BUCKET, "size": str(len(stored.data)),
        "generation": str(stored.generation), "metageneration": "1",
        "updated": f"2026-01-01T00:{stored.generation // 60 % 60:02}:{stored.generation % 60:02}Z",
    }  # fmt: skip


class _Handler(http.server.BaseHTTPRequestHandler):
    """One request."""

    protocol_version = "HTTP/1.1"
    bucket: FakeBucket

    def log_message(self, *words: object) -> None:
        """Print nothing."""

    def handle_one_request(self) -> None:
        try:
            super().handle_one_request()
        except (ConnectionError, TimeoutError):  # the other end was killed
            self.close_connection = True

    def _answer(self, code: int, body: Any = b"", **headers: str) -> None:
        data = body if isinstance(body, bytes) else json.dumps(body).encode()
        self.send_response(code)
        for name, value in headers.items():
            self.send_header(name.replace("_", "-"), value)
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    def _refuses(self, kind: str, name: str) -> bool:
        self.bucket.calls.append(f"{kind} {name}")
        if kind not in self.bucket.refused:
            return False
        words = f"Anonymous caller does not have storage.objects.{kind} access"
        self._answer(403, {"error": {"code": 403, "message": words}})
        return True

    def _parsed(self) -> tuple[str, dict[str, str]]:
        url = urllib.parse.urlsplit(self.path)
        query = urllib.parse.parse_qs(url.query, keep_blank_values=True)
        return url.path, {name: values[-1] for name, values in query.items()}

    def _object(self, path: str) -> str | None:
        found = re.fullmatch(rf"(?:/download)?/storage/v1/b/{BUCKET}/o/(.+)", path)
        return urllib.parse.unquote(found[1]) if found else None

    def do_GET(self) -> None:
        path, query = self._parsed()
        if (name := self._object(path)) is not None:
            self._read(name, query)
        elif path == f"/storage/v1/b/{BUCKET}/o":
            self._list(query)
        elif path == f"/storage/v1/b/{BUCKET}":
            self._answer(200, {"kind": "storage#bucket", "name": BUCKET, "id": BUCKET})
        else:
            self._answer(404, {"error": {"code": 404, "message": "Not Found"}})

    def _read(self, name: str, query: Mapping[str, str]) -> None:
        if self._refuses("read", name):
            return
        stored = self.bucket.objects.get(name)
        if stored is None:
            self._answer(404, {"error": {"code": 404, "message": "Not Found"}})
        elif query.get("alt") != "media":
            self._answer(200, described(name, stored))
        elif query.get("ifGenerationNotMatch") == str(stored.generation):
            self._answer(304)
        else:
            data, total = stored.data, len(stored.data)
            headers = {"x_goog_generation": str(stored.generation)}
            wanted = re.fullmatch(r"bytes=(\d*)-(\d*)", self.headers.get("Range", ""))
            if wanted is None:
                self._answer(200, data, **headers)
                return
            if wanted[1]:
                first, last = int(wanted[1]), min(int(wanted[2] or total), total - 1)
            else:
                first, last = max(0, total - int(wanted[2])), total - 1
            if first >= total:
                self._answer(416)
                return
            said = f"bytes {first}-{last}/{total}"
            self._answer(206, data[first : last + 1], Content_Range=said, **headers)

    def _list(self, query: Mapping[str, str]) -> None:
        prefix, delimiter = query.get("prefix", ""), query.get("delimiter")
        if self._refuses("list", prefix):
            return
        start, end = query.get("startOffset", ""), query.get("endOffset")
        items, prefixes = [], set()
        for name in self.bucket.names(prefix):
            rest = name[len(prefix) :]
            if name < start or (end is not None and name >= end):
                continue
            if delimiter and delimiter in rest:
                prefixes.add(prefix + rest[: rest.index(delimiter) + 1])
            elif stored := self.bucket.objects.get(name):
                items.append(described(name, stored))
        body = {"kind": "storage#objects", "items": items, "prefixes": sorted(prefixes)}
        self._answer(200, body)

    def do_POST(self) -> None:
        path, query = self._parsed()
        data = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        if path != f"/upload/storage/v1/b/{BUCKET}/o":
            self._answer(404, {"error": {"code": 404, "message": "Not Found"}})
        elif "upload_id" in query:
            self._part(query, data)
        elif query["uploadType"] == "resumable":
            said = json.loads(data or b"{}")
            name = said.get("name") or query["name"]
            if not self._refuses("write", name):
                base = self.bucket.environment()["STORAGE_EMULATOR_HOST"]
                self._answer(
                    200,
                    Location=f"{base}{path}?uploadType=resumable&upload_id={self.bucket.begin(name)}",
                )
        elif query["uploadType"] == "multipart":
            boundary = (
                b"--" + self.headers["Content-Type"].split("boundary=")[1].strip('"').encode()
            )
            _, described_part, content = data.split(boundary, 2)
            name = json.loads(described_part.partition(b"\n\n")[2])["name"]
            whole = content.partition(b"\n\n")[2].rpartition(b"\n" + boundary + b"--")[0]
            self._write(name, whole, query.get("ifGenerationMatch"))
        else:
            self._write(query["name"], data, query.get("ifGenerationMatch"))

    do_PUT = do_POST

    def _part(self, query: Mapping[str, str], data: bytes) -> None:
        name, whole = self.bucket.add(query["upload_id"], data)
        if self.headers.get("Content-Range", "").endswith("/*"):
            self._answer(308, Range=f"bytes=0-{len(whole) - 1}")
        else:
            self._write(name, bytes(whole), None)

    def _write(self, name: str, data: bytes, match: str | None) -> None:
        if self._refuses("write", name):
            return
        stored = self.bucket.put(name, data, match)
        if stored is None:
            self._answer(412, {"error": {"code": 412, "message": "conditionNotMet"}})
        else:
            self._answer(200, described(name, stored))

    def do_DELETE(self) -> None:
        name = self._object(self._parsed()[0]) or ""
        if self._refuses("delete", name):
            return
        with self.bucket.lock:
            gone = self.bucket.objects.pop(name, None)
        if gone is None:
            self._answer(404, {"error": {"code": 404, "message": "Not Found"}})
        else:
            self._answer(204)
