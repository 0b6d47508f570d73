"""A file that only grows: whole lines, or what was there before."""

import json
import resource
import subprocess
import sys
import textwrap

import pytest

from minillm.core.json_lines import append_line, mend_lines, object_of, whole_lines


def test_lines_are_objects_whatever_they_hold(tmp_path):
    path, odd = tmp_path / "a", {"text": "line\nbreak\u2028\x85\r é 你好", "n": None}
    append_line(path, odd)
    append_line(path, {"b": [1]}, wait=False)
    lines, torn = whole_lines(path)
    assert [object_of(line) for _, line in lines] == [odd, {"b": [1]}] and torn == b""


def test_half_a_line(tmp_path):
    path = tmp_path / "a"
    append_line(path, {"a": 1})
    with path.open("ab") as stream:
        stream.write(b'{"a": "caf\xc3')
    with pytest.raises(ValueError, match="half a line"):
        append_line(path, {})
    assert mend_lines(path) == '{"a": "caf�' and (tmp_path / "a.torn").read_bytes() == b'{"a": "caf\xc3\n'
    assert mend_lines(path) is None and path.read_bytes() == b'{"a": 1}\n'
    path.write_bytes(b'{"a": 1}\n{"a": 2}')
    assert mend_lines(path) is None
    append_line(path, {"a": 3})
    assert [object_of(line)["a"] for _, line in whole_lines(path)[0]] == [1, 2, 3]


@pytest.mark.parametrize("line", [b"[1]", b"{", b'{"a": "\xff"}', b"[" * 100_000])
def test_what_is_no_object(line):
    with pytest.raises(ValueError, match=r"must be an object|not JSON"):
        object_of(line)


FULL = """
    import sys, resource
    from minillm.core.json_lines import append_line
    append_line(sys.argv[1], {"a": 1})
    for n in range(2, 200):
        try:
            append_line(sys.argv[1], {"a": n, "more": "x" * int(sys.argv[3])})
        except OSError as error:
            print(error)
            break
        resource.setrlimit(resource.RLIMIT_FSIZE, (int(sys.argv[2]), resource.RLIM_INFINITY))
"""


@pytest.mark.parametrize(("size", "more"), [(100, 3), (4000, 700), (50, 5000)])
def test_a_full_disk_takes_nothing_of_a_line(tmp_path, size, more):
    """The system writes as much as fits and says so: that much goes out again."""
    path = tmp_path / "a"
    command = [sys.executable, "-c", textwrap.dedent(FULL), str(path), str(size), str(more)]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert "is the disk full?" in done.stdout or "too large" in done.stdout
    lines, torn = whole_lines(path)
    assert torn == b"" and [json.loads(line)["a"] for _, line in lines] == list(range(1, len(lines) + 1))
    assert resource.getrlimit(resource.RLIMIT_FSIZE)[0] != size, "the limit was the other program's"
