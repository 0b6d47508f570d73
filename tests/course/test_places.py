"""Where the learner's own things are kept."""

from pathlib import Path

from minillm.course import places


def test_the_learners_folder_is_beside_the_notebooks(monkeypatch):
    monkeypatch.delenv(places.FOLDER, raising=False)
    course = Path(places.__file__).resolve().parents[2]
    assert places.learner_folder() == course / "my"


def test_another_folder_can_be_named(monkeypatch, tmp_path):
    monkeypatch.setenv(places.FOLDER, str(tmp_path / "mine"))
    assert places.learner_folder() == tmp_path / "mine"


def test_without_a_course_it_is_where_one_is(monkeypatch, tmp_path):
    monkeypatch.delenv(places.FOLDER, raising=False)
    monkeypatch.setattr(places, "_from_library", lambda: tmp_path)
    monkeypatch.chdir(tmp_path)
    assert places.learner_folder() == tmp_path / "my"
