"""What a browser does with the widget of each chapter: which cell, what stands in for training, and what must follow.

Read by `test_browser_widgets.py`. `keys` holds one entry for every control, in the order of Tab: its label, the keys
that are pressed on it ("type …" for a line of text), and words that are then said. `mouse` is the same for one control:
a fraction of its track to drag a handle to, or an option to choose. Each entry must change the picture.
"""

from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class Case:
    """One widget."""

    notebook: str
    cell: str  # how the widget's line begins
    keys: tuple[tuple[str, str, str], ...]
    mouse: tuple[str, float | str, str]
    stand_in: str = ""  # makes what would take long, quickly; runs first
    given: tuple[str, ...] = ()  # the names that it makes


MERGES = """from minillm.text.bpe import BPETokenizer
learned = {"English": BPETokenizer.train("the cat sat on the mat, the hat lay there " * 9, 290)}
learned["Chinese"] = BPETokenizer.train("守灯塔的人等着灯塔" * 9, 270)"""
VECTORS = """import numpy as np
from minillm.vectors.word_vectors import WordVectors
names = ["baker", "bakery", "smith", "smithy", "goat", "hen", "egg"]
places = np.array([[1, 0, 0.1], [1, 0, 1], [0, 1, 0.1], [0, 1, 1.1], [-1, 0.1, 0], [0.2, -1, 0], [0.5, -0.3, -1]])
tables = {"LSA": WordVectors(names, places), "GloVe": WordVectors(names, places[[0, 1, 2, 4, 3, 5, 6]])}"""
LOGITS = "gpt = lambda tokens_bt: torch.arange(tokens_bt.shape[1] * V).sin().view(1, -1, V)"
READERS = """from minillm.course.mixed_reading import CONFIGS, new_reader
readers = {steps: new_reader(CONFIGS["experts, balance loss"]).eval() for steps in (0, 10)}
readers[10].embedding.weight.data += 1
copies = {"no balance": {0: readers[10], 10: readers[0]}, "by a loss": readers}"""
ANSWERS = """base = tuned = None
generate = lambda model, rows, new, temperature: [rows[0] + rows[0][1:3]]
ask = lambda model, template, prompts: [prompts[0].split()[-1]]"""
CHANGES = """import numpy as np
w, directions = np.random.default_rng(0).standard_normal((2, 24, 16))
changes = {"query.weight": (w, directions * 2.0 ** -np.arange(16)), "mlp.up.weight": (w, directions)}
cut_right = {2**i: (i + 3) / 10 for i in range(5)}"""

ALL = (
    Case(
        "00-start-here",
        "TimelineExplorer",
        (("era", "ArrowDown", "1950: The imitation game"),),
        ("era", "all eras", "44 events"),
    ),
    Case(
        "01-rules-and-eliza",
        "ListenerExplorer",
        (
            ("message", "type My dog hates me because I dream of you.", "Reply: What is the first thing"),
            ("exchange I and you", "Space", "Reply: Dreams keep odd hours."),
            ("let the highest rank speak first", "Space", "Reply: Is that the whole reason?"),
        ),
        ("exchange I and you", "click", "Reply: What does the dog do when you come home?"),
    ),
    Case(
        "02-counting-words",
        "CountingExplorer",
        (
            ("text", "ArrowDown", "add-k on 120 stories: best at order 1 with 2.74 bits"),
            ("training stories", "ArrowUp", "add-k on 30 stories: best at order 1 with 3.39 bits"),
            ("smoothing", "ArrowUp", "interpolated on 30 stories: best at order 6"),
        ),
        ("text", "village", "The village's entropy is"),
    ),
    Case(
        "03-text-to-tokens",
        "BPEExplorer",
        (
            ("merges learned from", "ArrowDown", "40 tokens for 38 characters"),
            ("number of merges", "Home", "54 tokens for 38 characters, 0.70 characters a token: T|h|e|"),
            ("sentence", "type the cat", "7 tokens for 7 characters, 1.00 characters a token: t|h|e|␣|c|a|t"),
        ),
        ("merges learned from", "English", "7 tokens for 7 characters"),
        MERGES,
        ("learned",),
    ),
    Case(
        "04-word-vectors",
        "AnalogyExplorer",
        (
            ("vectors", "ArrowDown", "baker is to bakery as smith is to goat"),
            ("a b c", "type bakery baker smithy", "bakery is to baker as smithy is to egg (cosine 0.21)"),
            ("let a, b and c be answers too", "Space", "is to smithy (cosine 0.76); then egg"),
        ),
        ("let a, b and c be answers too", "click", "is to egg"),
        VECTORS,
        ("tables",),
    ),
    Case(
        "05-neural-language-models",
        "GradientExplorer",
        (
            ("cell", "ArrowUp", "GRU, weights × 1.00"),
            ("scale of the recurrent weights", "ArrowRight", "GRU, weights × 1.25"),
            ("forget bias (LSTM only)", "", "GRU, weights × 1.25"),
        ),
        ("scale of the recurrent weights", 1.0, "weights × 4.00"),
    ),
    Case(
        "06-attention",
        "LookExplorer",
        (
            ("sentence", "ArrowDown", "Head 1 of 4: a → "),
            ("head", "ArrowRight", "Head 2 of 4: a → "),
        ),
        ("head", 1.0, "Head 4 of 4: a → "),
    ),
    Case(
        "07-transformer",
        "TranslationExplorer",
        (
            ("sentence", "ArrowDown", "Layer 2 of 2, head 1 of 4."),
            ("who looks", "ArrowDown", "Most: Viktor ← "),
            ("layer", "ArrowLeft", "Layer 1 of 2, head 1 of 4. Most: Viktor ← "),
            ("head", "ArrowUp", "Layer 1 of 2, head 2 of 4. Most: Viktor ← "),
        ),
        ("head", 1.0, "Layer 1 of 2, head 4 of 4. Most: Viktor ← "),
    ),
    Case(
        "08-bert",
        "MaskExplorer",
        (
            ("sentence", "type The river is open.", "Hidden: 'is', word 3."),
            ("hide word number", "ArrowRight", "Hidden: 'open', word 4."),
        ),
        ("hide word number", 0.0, "Hidden: 'The', word 1."),
    ),
    Case(
        "09-gpt",
        "NextWordExplorer",
        (
            ("after the words", "ArrowDown", "After “There was once a boy called Walter , who had a”"),
            ("temperature", "ArrowLeft", "294 of 438 words"),
            ("top-k (0: all)", "ArrowRight ArrowRight", "2 of 438 words"),
            ("top-p (1: all)", "Home", "1 of 438 words"),
        ),
        ("top-p (1: all)", 1.0, "2 of 438 words"),
        LOGITS,
        ("gpt",),
    ),
    Case(
        "10-modern-decoder",
        "RopeExplorer",
        (
            ("head width", "ArrowDown", "Hand 3 of 16 goes round once in 20 tokens."),
            ("base", "ArrowUp", "Hand 3 of 16 goes round once in 11 tokens."),
            ("hand", "ArrowRight", "Hand 4 of 16 goes round once in 15 tokens."),
            ("both tokens moved on by (places)", "ArrowRight", "Moved on by 50 places, the scores are as at the start"),
            ("longest distance in training (tokens)", "ArrowRight", "Within 40 tokens"),
        ),
        ("longest distance in training (tokens)", 1.0, "Within 64 tokens"),
    ),
    Case(
        "12-cuda",
        "RooflineExplorer",
        (
            ("the machine's balance (operations a byte)", "ArrowRight", "At a balance of 21 operations a byte"),
            ("width of the block", "ArrowDown", "At a balance of 21"),
            ("tokens in the batch", "Home", "The norm can reach 2.4% of the rate, the MLP 2%"),
            ("of which a row has (tokens)", "", "the MLP 2%"),
            ("bfloat16, 2 bytes a number", "Space", "The norm can reach 4.8% of the rate"),
        ),
        ("the machine's balance (operations a byte)", 0.0, "At a balance of 1 operations a byte"),
    ),
    Case(
        "14-mixture-of-experts",
        "RouterExplorer",
        (
            ("balance", "ArrowUp", "Block 2 of “no balance” after 10 steps"),
            ("after steps", "ArrowUp", "Block 2 of “no balance” after 0 steps"),
            ("block", "ArrowUp", "Block 1 of “no balance” after 0 steps"),
            ("your own text", "type the mill is open", "Most of your text goes to expert"),
        ),
        ("block", "2", "Block 2 of “no balance” after 0 steps"),
        READERS,
        ("copies",),
    ),
    Case(
        "16-instruction-tuning",
        "InstructionExplorer",
        (
            ("task", "ArrowDown", "Prompt: Tell me what 2 + 8 is."),
            ("what is new", "ArrowDown", "Prompt: Tell me: 2 + 1"),
            ("number", "ArrowRight", "Prompt: Tell me: 9 + 2"),
            ("my own words", "", "Prompt: Tell me: 9 + 2"),
        ),
        ("task", "my own words", "Prompt: Say after me: cat, honey, cat"),
        ANSWERS,
        ("base", "tuned", "generate", "ask"),
    ),
    Case(
        "17-lora",
        "RankExplorer",
        (
            ("matrix", "ArrowDown", "Rank 8 keeps 84% of the squared change of mlp.up"),
            ("rank: 2 to the power of", "ArrowLeft", "Rank 4 keeps 54% of the squared change of mlp.up"),
        ),
        ("rank: 2 to the power of", 0.0, "Rank 1 keeps 18% of the squared change of mlp.up"),
        CHANGES,
        ("changes", "cut_right"),
    ),
    Case(
        "19-reward-model",
        "ComparisonExplorer",
        (
            ("comparisons", "ArrowRight", "220 comparisons of 12 items: the scores guess 79.0%"),
            ("wrong clicks (share)", "ArrowRight", "nobody can guess more than 76.1%"),
            ("sharpness of the rater", "ArrowRight", "nobody can guess more than 79.3%"),
        ),
        ("comparisons", 1.0, "2000 comparisons of 12 items"),
    ),
    Case(
        "20-ppo",
        "OptimumExplorer",
        (("β: price of a nat (score)", "ArrowRight", "β = 0.55: the expected score goes from -0.35 to 0.19"),),
        ("β: price of a nat (score)", 1.0, "β = 2.00: the expected score goes from -0.35 to -0.12"),
    ),
    Case(
        "26-capstone",
        "DecisionExplorer",
        (
            ("worth of a wrong answer", "ArrowRight", "Wrong answers worth -0.9, β = 0.20"),
            ("β: price of a nat (reward)", "ArrowRight", "Wrong answers worth -0.9, β = 0.25"),
        ),
        ("worth of a wrong answer", 0.0, "Wrong answers worth -9.0, β = 0.25"),
    ),
)
NOTEBOOKS = Path(__file__).resolve().parents[1] / "notebooks"
CASES = tuple(case for case in ALL if (NOTEBOOKS / f"{case.notebook}.ipynb").exists())
