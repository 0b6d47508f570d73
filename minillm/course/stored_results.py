"""Results of experiments that are too slow for a chapter: a command makes them again, the chapter shows the file.

Next:    minillm/course/abstention.py
"""

import json
from pathlib import Path
from typing import Any

from minillm.core.files import write_atomically


def show_or_store(result: Any, path: Path | None) -> None:
    """Write plain data to `path` as JSON, its fractions rounded to the four digits that a reader can use; or print it.

    >>> show_or_store({"score": 0.123456, "kl": [1, 2.0]}, None)
    {
     "score": 0.1235,
     "kl": [
      1,
      2.0
     ]
    }
    """
    text = json.dumps(_rounded(result), indent=1)
    if path is None:
        print(text)
    else:
        write_atomically(path, text + "\n")


def _rounded(value: Any) -> Any:
    if isinstance(value, float):
        return round(value, 4)
    if isinstance(value, dict):
        return {name: _rounded(part) for name, part in value.items()}
    return [_rounded(part) for part in value] if isinstance(value, list) else value
