"""Fetching: success, every kind of wrong answer, no network, and a kill in the middle; a server on this machine."""

import hashlib
import os
import subprocess
import sys
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from minillm.core.files import write_atomically
from minillm.text import public_texts
from minillm.text.corpus import load_corpus
from minillm.text.public_texts import PUBLIC_TEXTS, PublicText, fetch_public_text

pytestmark = pytest.mark.no_promises  # text in, text out: no arrays with promises

TEXT = "".join(f"Line {i} of a public text.\n\n" for i in range(4000)).encode()
SHA256 = hashlib.sha256(TEXT).hexdigest()


@pytest.fixture
def server():
    """Answers by path: /good, /changed, /long, /short, /missing; /slow sends half and then waits."""
    asked = []
    release = threading.Event()

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self):
            asked.append(self.path)
            body = {
                "/good": TEXT,
                "/slow": TEXT,
                "/changed": TEXT.replace(b"7", b"8"),
                "/long": TEXT + b"x" * 10_000_000,
                "/short": TEXT[:-100],
                "/cut": TEXT,
            }.get(self.path)
            if body is None:
                return self.send_error(404)
            self.send_response(200)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            try:
                if self.path in ("/slow", "/cut"):
                    self.wfile.write(body[: len(body) // 2])
                    self.wfile.flush()
                    if self.path == "/slow":
                        release.wait(20)
                    self.close_connection = True
                else:
                    self.wfile.write(body)
            except OSError:
                pass  # the client went away: that is what some tests want

        def log_message(self, format, *args):
            pass

    class Server(ThreadingHTTPServer):
        daemon_threads = False  # so that closing waits for every answer, and none outlives its test

    with Server(("127.0.0.1", 0), Handler) as http:
        thread = threading.Thread(target=http.serve_forever, args=(0.05,))
        thread.start()
        yield f"http://127.0.0.1:{http.server_address[1]}", asked
        release.set()
        http.shutdown()
        thread.join()


@pytest.fixture
def cache(tmp_path, monkeypatch):
    """An empty cache folder, and no proxy between us and this machine."""
    folder = tmp_path / "cache"
    monkeypatch.setenv("MINILLM_CACHE", str(folder))
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    return folder


def offer(monkeypatch, address, name="classic", **changes):
    entry = {"size": len(TEXT), "sha256": SHA256, "licence": "public domain"} | changes
    monkeypatch.setitem(PUBLIC_TEXTS, name, PublicText(address=address, **entry))


def files(folder):
    return sorted(entry.name for entry in folder.iterdir()) if folder.exists() else []


def test_a_text_is_fetched_once_and_then_read_from_the_cache(server, cache, monkeypatch):
    address, asked = server
    offer(monkeypatch, f"{address}/good")
    first, second = load_corpus("classic"), load_corpus("classic")
    assert first.text == second.text == TEXT.decode()
    assert (first.name, first.sha256, first.licence) == ("classic", SHA256, "public domain")
    assert len(first.documents) == 4000
    assert asked == ["/good"] and files(cache) == ["classic.txt"]


@pytest.mark.parametrize(
    ("path", "says"),
    [
        ("/changed", "its SHA-256 is"),
        ("/long", "more than the"),
        ("/short", f"ends at byte {len(TEXT) - 100:,} of {len(TEXT):,}"),
        ("/cut", "IncompleteRead|ends at byte"),
        ("/missing", "Not Found|404"),
    ],
)
def test_a_wrong_answer_leaves_nothing_and_says_what_to_do(server, cache, monkeypatch, path, says):
    offer(monkeypatch, server[0] + path)
    with pytest.raises(ValueError, match=says) as error:
        fetch_public_text("classic")
    message = str(error.value)
    assert server[0] + path in message and SHA256 in message and str(cache / "classic.txt") in message
    assert files(cache) == []


def test_a_server_that_sends_too_much_is_cut_off(server, cache, monkeypatch):
    offer(monkeypatch, f"{server[0]}/long")
    assert len(public_texts._download(PUBLIC_TEXTS["classic"])) == len(TEXT) + 1


def test_offline_says_what_was_wanted_and_where_to_put_it_by_hand(cache, monkeypatch):
    offer(monkeypatch, "http://127.0.0.1:9/nobody-listens")
    with pytest.raises(ValueError, match="online") as error:
        fetch_public_text("classic")
    for part in ("'classic'", "127.0.0.1:9/nobody-listens", f"{len(TEXT):,} bytes", SHA256, str(cache / "classic.txt")):
        assert part in str(error.value)
    cache.mkdir()
    (cache / "classic.txt").write_bytes(TEXT)  # and by hand it works
    assert fetch_public_text("classic") == cache / "classic.txt"


def test_a_wrong_file_in_the_cache_is_named_and_not_overwritten(server, cache, monkeypatch):
    offer(monkeypatch, f"{server[0]}/good")
    cache.mkdir()
    (cache / "classic.txt").write_bytes(b"something of mine")
    with pytest.raises(ValueError, match=r"classic\.txt is not the text 'classic'.*Delete it"):
        fetch_public_text("classic")
    assert (cache / "classic.txt").read_bytes() == b"something of mine" and server[1] == []


CHILD = """
import os, signal, sys
from minillm.text import public_texts as p
address, size, sha, when = sys.argv[1:]
p.PUBLIC_TEXTS["classic"] = p.PublicText(address=address, size=int(size), sha256=sha, licence="public domain")
if when == "before the rename":
    p.os.replace = lambda *names: os.kill(os.getpid(), signal.SIGKILL)
print("started", flush=True)
p.fetch_public_text("classic")
"""


@pytest.mark.skipif(os.name == "nt", reason="SIGKILL is a POSIX signal")
@pytest.mark.parametrize(("path", "when"), [("/slow", "while fetching"), ("/good", "before the rename")])
def test_a_kill_leaves_nothing_half_written(server, cache, monkeypatch, path, when):
    address, asked = server
    command = [sys.executable, "-c", CHILD, address + path, str(len(TEXT)), SHA256, when]
    with subprocess.Popen(command, stdout=subprocess.PIPE) as child:
        assert child.stdout is not None and child.stdout.readline() == b"started\n"
        if when == "while fetching":
            while not asked:
                time.sleep(0.01)
            time.sleep(0.1)
            child.kill()
        assert child.wait(20) == -9
    assert "classic.txt" not in files(cache)
    offer(monkeypatch, f"{address}/good")
    assert fetch_public_text("classic").read_bytes() == TEXT  # the next try is not disturbed by the first


def test_a_failed_write_leaves_the_old_file_and_no_other(tmp_path, monkeypatch):
    path = tmp_path / "a.txt"
    write_atomically(path, b"old")
    monkeypatch.setattr(public_texts.os, "replace", lambda *names: (_ for _ in ()).throw(OSError("disk full")))
    with pytest.raises(OSError, match="disk full"):
        write_atomically(path, b"new")
    assert path.read_bytes() == b"old" and files(tmp_path) == ["a.txt"]


def test_the_table_holds_safe_addresses_and_full_checks():
    for name, text in PUBLIC_TEXTS.items():
        assert text.address.startswith("https://") and text.licence and name == name.lower()
    for bad in ({"address": "ftp://x"}, {"size": 0}, {"sha256": "abc"}):
        good = {"address": "https://x", "size": 1, "sha256": "0" * 64, "licence": "MIT"}
        with pytest.raises(ValueError, match="must"):
            PublicText(**(good | bad))


def test_an_unknown_name_is_refused():
    with pytest.raises(ValueError, match="known: tinyshakespeare"):
        fetch_public_text("nothing")
