"""Dashboard: each panel shows its fields, red means red, and it keeps quiet where nobody watches."""

import io
import random
import types
from dataclasses import fields, replace

import pytest

from minillm.alignment.ppo_record import PPORecord
from minillm.course import dashboard, live, progress
from minillm.course.dashboard import COLUMNS, FIELDS, MOST_RATIO_ERROR, PANELS, Dashboard
from minillm.course.figures_base import Drawing

pytestmark = pytest.mark.no_promises  # no shapes here, and the hook slows matplotlib down
FIRST = PPORecord(**{field.name: 0.25 for field in fields(PPORecord)} | {"update": 1, "ratio_error": 0.0})


def rows(n, **changes):
    """A run in which every field moves in a way of its own."""
    names = [name for name in FIELDS if name != "ratio_error"]
    moved = [{name: (i + 1) * (t + 1) / 10 for i, name in enumerate(names)} for t in range(n)]
    return [replace(FIRST, **{**moved[t], "update": t + 1, **changes}) for t in range(n)]


def drawn(board, title):
    """The axes of a panel, as `figure` draws them."""
    with Drawing(title=board.title, alt="A panel of a run, for a test.") as drawing:
        (panel,) = (panel for panel in PANELS if panel.title.startswith(title))
        board._draw(drawing.axes, panel)
    return drawing.axes


def lines_of(axes):
    return {line.get_label(): (list(line.get_xdata()), list(line.get_ydata())) for line in axes.lines}


# what is drawn ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("panel", PANELS, ids=lambda panel: panel.title)
def test_each_panel_shows_its_fields_of_the_record(panel):
    run = rows(7)
    axes = drawn(Dashboard(run), panel.title)
    found = lines_of(axes)
    assert (axes.get_legend() is not None) == (len(panel.lines) > 1), "names where there is something to tell apart"
    for name, label in panel.lines.items():
        wanted = [max(getattr(row, name), 1e-9 if panel.most else -9) for row in run]
        assert found[label] == ([1, 2, 3, 4, 5, 6, 7], pytest.approx(wanted))
    assert len(set(FIELDS)) == len(FIELDS) and set(COLUMNS) <= {field.name for field in fields(PPORecord)}


def test_the_optimum_is_dotted_where_it_is_known():
    board = Dashboard(rows(5), optimum={"objective": 0.75, "kl": 1.5})
    (j,) = (line for line in drawn(board, "Score").lines if line.get_label() == "J at best")
    assert set(j.get_ydata()) == {0.75} and j.get_linestyle() == ":"
    assert set(lines_of(drawn(board, "KL"))["k1 at best"][1]) == {1.5}
    assert "optimum of objective, kl" in board._what_is_seen()
    assert not any("best" in label for label in lines_of(drawn(board, "Entropy")))


def test_gold_is_drawn_beside_the_score_where_it_is_known():
    board = Dashboard(rows(2))
    board(rows(3)[2], gold=0.5)
    x, y = lines_of(drawn(board, "Score"))["gold"]
    assert x == [1, 2, 3] and y[2] == 0.5 and y[0] != y[0]
    assert "gold" not in lines_of(drawn(Dashboard(rows(3)), "Score"))
    assert "gold" not in lines_of(drawn(board, "KL"))


@pytest.mark.parametrize(("error", "red"), [(0.0, False), (9e-4, False), (1.1e-3, True), (0.4, True)])
def test_a_first_ratio_that_is_not_1_is_red(error, red):
    board = Dashboard([*rows(4), replace(FIRST, update=5, ratio_error=error)])
    axes = drawn(board, "Largest")
    assert axes.get_yscale() == "log" and (axes._left_title.get_color() == "#C00000") == red
    (limit,) = (line for line in axes.lines if line.get_linestyle() == "--")
    assert set(limit.get_ydata()) == {1e-3} and limit.get_color() == "#C00000"
    (crosses,) = (line for line in axes.lines if line.get_marker() == "x")
    assert list(crosses.get_xdata()) == ([5] if red else [])
    assert ("is NOT 1" in board._what_is_seen()) == red
    assert board.table.splitlines()[-1].endswith("!") == red
    assert MOST_RATIO_ERROR == 1e-3


def test_a_long_run_has_few_points_and_no_bug_is_averaged_away():
    run = rows(1000)
    run[421] = replace(run[421], ratio_error=0.02)
    found = lines_of(drawn(Dashboard(run), "Largest"))["error"]
    assert len(found[0]) <= 60 and found[0][-1] == 1000 and max(found[1]) == 0.02
    x, y = lines_of(drawn(Dashboard(run), "Length"))["length"]
    assert y[0] == pytest.approx(sum(row.length for row in run[:17]) / 17) and x[0] == 17


def test_the_picture_is_small_and_says_the_same_on_every_machine():
    noise = random.Random(0)
    wild = [replace(row, **{name: noise.random() for name in FIELDS}) for row in rows(300)]
    figure = Dashboard(wild, optimum={"kl": 0.5}).figure
    assert figure.png[1:4] == b"PNG" and len(figure.png) < 120_000
    figure = Dashboard(rows(30)).figure
    assert figure.alt == "Over 30 updates J rises; the first ratio is 1 throughout." and len(figure.png) < 60_000


def test_the_words_tell_of_j_and_of_every_update():
    run = rows(5)
    down = [replace(row, objective=-row.objective) for row in run]  # while the score rises
    assert Dashboard(down)._what_is_seen().startswith("Over 5 updates J falls; the first ratio is 1 throughout")
    run[1] = replace(run[1], ratio_error=0.5)
    assert "J rises; the first ratio is NOT 1" in Dashboard(run)._what_is_seen(), "also when it is 1 again at the end"
    assert "J is where it was" in Dashboard(run[:1])._what_is_seen()


def test_as_the_last_line_of_a_cell_it_is_its_picture():
    board = Dashboard(rows(3))
    assert board._repr_mimebundle_() == board.figure._repr_mimebundle_()
    assert set(Dashboard()._repr_mimebundle_()) == {"text/plain"}


def test_the_table_holds_the_record():
    table = Dashboard(rows(7), every=3).table.splitlines()
    assert [line.split()[0] for line in table] == ["update", "3", "6", "7"]
    assert len({len(line) for line in table}) == 1 and len(table[0]) <= 120
    assert table[1].split()[1] == f"{rows(3)[2].score:.3f}"
    assert repr(Dashboard(rows(1))).startswith("A run of PPO\nupdate")


# where it is shown --------------------------------------------------------------------------------------------------


class Terminal(io.StringIO):
    def isatty(self):
        return True


@pytest.fixture
def terminal(monkeypatch):
    monkeypatch.delenv("MINILLM_QUIET", raising=False)
    stream = Terminal()
    for module in (progress, dashboard):
        monkeypatch.setattr(module, "sys", types.SimpleNamespace(stderr=stream, modules={}))
    return stream


@pytest.fixture
def kernel(monkeypatch):
    """A kernel that counts: each display and each update, as (how, bundle)."""
    import IPython
    import IPython.display

    monkeypatch.delenv("MINILLM_QUIET", raising=False)
    shown = []
    handle = types.SimpleNamespace(update=lambda data, raw: shown.append(("update", data)))

    def display(data, raw, display_id):
        shown.append(("display", data))
        return handle

    monkeypatch.setattr(IPython, "get_ipython", lambda: types.SimpleNamespace(kernel=object()))
    monkeypatch.setattr(IPython.display, "display", display)
    monkeypatch.setattr(live, "_PERIOD", 0.0)
    monkeypatch.setattr(live, "time", types.SimpleNamespace(monotonic=lambda: 0.0))  # drawing costs nothing
    return shown


@pytest.fixture
def light(monkeypatch):
    """Pictures that cost nothing and say what they are of."""

    def figure(board):
        return types.SimpleNamespace(_repr_mimebundle_=lambda: {"text/plain": board._what_is_seen()})

    monkeypatch.setattr(Dashboard, "figure", property(figure))


def play(n, **options):
    with Dashboard(**options) as board:
        for row in rows(n):
            assert board(row) is None
    return board


def test_a_kernel_shows_one_display_that_ends_with_the_last_picture(kernel, light, capsys):
    board = play(3)
    assert [how for how, _ in kernel] == ["display", "update", "update"]
    assert kernel[-1][1] == board.figure._repr_mimebundle_() and "Over 3 updates" in kernel[-1][1]["text/plain"]
    assert capsys.readouterr() == ("", "")


def test_a_kernel_whose_outputs_are_kept_shows_the_last_picture_only(kernel, light, monkeypatch):
    monkeypatch.setenv("MINILLM_QUIET", "1")
    board = play(4)
    assert kernel == [("display", board.figure._repr_mimebundle_())]


@pytest.mark.parametrize("quiet", [False, True])
def test_a_run_that_breaks_off_leaves_its_picture(kernel, light, monkeypatch, quiet):
    monkeypatch.setenv("MINILLM_QUIET", "1") if quiet else None
    with pytest.raises(ZeroDivisionError), Dashboard() as board:
        board(rows(2)[0])
        board(rows(2)[1])
        raise ZeroDivisionError
    assert "Over 2 updates" in kernel[-1][1]["text/plain"]
    seen = len(kernel)
    board.close()
    assert len(kernel) == seen, "what is closed stays closed"


def test_a_terminal_shows_the_table(terminal):
    board = play(45, every=2)
    seen = terminal.getvalue().splitlines()
    assert [line for line in seen if not line.startswith("update")] == board.table.splitlines()[1:]
    assert sum(line.startswith("update") for line in seen) == 2, "the head comes again"


@pytest.mark.parametrize("quiet", [True, False])
def test_elsewhere_nothing_is_shown(terminal, monkeypatch, quiet):
    monkeypatch.setenv("MINILLM_QUIET", "1") if quiet else setattr(terminal, "isatty", lambda: False)
    assert len(play(3).records) == 3 and terminal.getvalue() == ""


def test_nothing_to_show_shows_nothing(kernel):
    with Dashboard():
        pass
    assert kernel == []


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"optimum": {"J": 1.0}}, "'J', which no panel shows"),
        ({"gold": [1.0]}, "1 values for 3 records"),
        ({"every": 0}, "every=0"),
    ],
    ids=str,
)
def test_wrong_settings(options, says):
    with pytest.raises(ValueError, match=says):
        Dashboard(rows(3), **options)


def test_a_run_without_updates_has_no_picture():
    with pytest.raises(ValueError, match="holds no update"):
        _ = Dashboard().figure
