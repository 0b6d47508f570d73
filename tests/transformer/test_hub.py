"""Named models: a folder as it is, a fetch of data alone, and advice when neither can be."""

import sys
from pathlib import Path

import pytest

from minillm.transformer.hub import model_folder


class Hub:
    """Stands for the hub's client: remembers what it was asked for."""

    def __init__(self, answer):
        self.answer, self.asked = answer, []

    def snapshot_download(self, name, allow_patterns):
        self.asked.append((name, allow_patterns))
        if isinstance(self.answer, Exception):
            raise self.answer
        return str(self.answer)


@pytest.fixture
def hub(monkeypatch, tmp_path):
    stands = Hub(tmp_path)
    monkeypatch.setitem(sys.modules, "huggingface_hub", stands)
    return stands


def test_a_folder_is_taken_as_it_is(hub, tmp_path):
    assert model_folder(tmp_path) == tmp_path
    assert model_folder(str(tmp_path)) == tmp_path
    assert not hub.asked


@pytest.mark.parametrize("name", ["gpt2", "meta-llama/Llama-3.2-1B"])
def test_a_hub_name_is_fetched_without_pickles_or_programs(hub, tmp_path, name):
    assert model_folder(name) == tmp_path
    ((asked, patterns),) = hub.asked
    assert asked == name
    assert {Path(pattern).suffix for pattern in patterns} == {".json", ".safetensors", ".txt"}


def test_offline_says_what_to_fetch_and_where_to_put_it(hub):
    hub.answer = OSError("Name or service not known\nand much more")
    with pytest.raises(ValueError) as error:
        model_folder("openai-community/gpt2")
    said = str(error.value)
    for part in ("Name or service", "config.json and model.safetensors", "https://huggingface.co/openai-community/gpt2",
                 "'gpt2' say", "give the folder's path"):  # fmt: skip
        assert part in said
    assert "and much more" not in said


def test_without_the_package_the_message_names_it(monkeypatch):
    monkeypatch.setitem(sys.modules, "huggingface_hub", None)
    with pytest.raises(ValueError, match=r"pip install 'minillm-course\[hub\]'"):
        model_folder("gpt2")


@pytest.mark.parametrize("name", ["./gpt2", "/gpt2", "../gpt2", "a/b/c", "", "a b", "a//b", ".hidden", Path("gpt2")])
def test_what_is_neither_is_refused_before_any_fetch(hub, monkeypatch, tmp_path, name):
    monkeypatch.chdir(tmp_path)
    if str(name) in ("", "."):
        name = "gone/"
    with pytest.raises(ValueError, match="is neither a folder here nor"):
        model_folder(name)
    assert not hub.asked
