"""Did it learn? A pretraining run is judged while it goes on, and in words at its end.

    bits per character  =  -Σ log₂ P(next token) / characters,   over documents that no step has seen

A number alone says little. So it stands between two others: the floor below, where the text's true entropy is known,
and above it what a model reaches that counts the characters after each four. Samples are shown too; they measure
nothing.

Paper:   Shannon 1951, "Prediction and Entropy of Printed English".
Next:    minillm/training/pretrain.py
"""

import json
import time
from typing import TYPE_CHECKING, Any

import torch

from minillm.core.files import write_atomically
from minillm.training.distributed import Process
from minillm.training.loop import Step
from minillm.training.pretrain_data import PretrainData
from minillm.transformer.decoder import Decoder, DecoderConfig
from minillm.transformer.generate import generate

if TYPE_CHECKING:
    from minillm.training.pretrain import Settings


class Judge:
    """A callback of `train`: a line now and then, bits per character, and the words at the end.

    `model` is a Decoder, or what is spread over the processes, whose `state_dict` is that of the whole model.
    """

    def __init__(
        self, settings: "Settings", data: PretrainData, model: Any, config: DecoderConfig, process: Process, start: int
    ) -> None:
        self.settings, self.data, self.model, self.config, self.process = settings, data, model, config, process
        self._tokens = settings.batch * config.context
        self._log = settings.folder / "log.jsonl"
        self._last, self._began = start, time.perf_counter()
        lines = self._log.read_text("utf-8").splitlines() if self._log.is_file() else []
        self._lines = [line for line in lines if json.loads(line)["step"] <= start]  # the rest is taken again
        self._floor = data.floor() if process.first else None

    def __call__(self, row: Step) -> None:
        judged = row.step % self.settings.judge_every == 0 or row.step == row.steps
        if not judged and row.step % max(1, row.steps // 20):
            return
        rate = self._tokens * (row.step - self._last) / (time.perf_counter() - self._began)
        bits = self.bits() if judged else None
        said = {"step": row.step, "loss": row.loss, "learning_rate": row.learning_rate, "bits": bits}
        self._lines.append(json.dumps(said))
        if self.process.first:
            write_atomically(self._log, "\n".join(self._lines) + "\n")
        measure = "" if bits is None else f"   held out {bits:.3f} bits per character" + self._above(bits)
        self.process.say(
            f"step {row.step:>6,} of {row.steps:,}   loss {row.loss:.3f}   {rate:>9,.0f} tokens/s{measure}"
        )
        self._last, self._began = row.step, time.perf_counter()

    def bits(self) -> float | None:
        """Of the held-out documents; the first process alone reads them, on the whole model."""
        model = self._whole()
        return self.data.bits(model) if self.process.first else None

    def verdict(self) -> dict[str, float | None]:
        """Judge once more, show samples, and say in words whether anything was learned."""
        model = self._whole()
        if not self.process.first:
            return {}
        bits, counted = self.data.bits(model), self.data.counted()
        for sample in samples(model, self.data, self.settings.seed):
            print(f"sample: {sample}")
        print(f"\nverdict: {bits:.3f} bits per character of {len(self.data.held_out)} documents that it never saw")
        if self._floor is not None:
            print(f"         {self._floor:.3f} is the floor: the entropy of these documents, which no model can beat")
        if counted is None:
            words = "the text is too short to count anything beside it"
        elif bits < counted:
            words = f"{counted:.3f} by counting characters: it has learned more than that"
        else:
            words = f"{counted:.3f} by counting characters: it has not learned yet what counting finds; take more steps"
        print(f"         {words}", flush=True)
        return {"bits": bits, "floor": self._floor, "counted": counted}

    def _above(self, bits: float) -> str:
        return "" if self._floor is None else f" ({bits - self._floor:+.3f} from the floor)"

    def _whole(self) -> Decoder:
        """The model in one piece; where it is spread, all processes must ask together."""
        if isinstance(self.model, Decoder):
            return self.model
        state = self.model.state_dict()
        model = Decoder(self.config).to(self.process.device)
        model.load_state_dict(state)
        return model


def samples(model: Decoder, data: PretrainData, seed: int, n: int = 2) -> list[str]:
    """Texts that the model writes from nothing."""
    generator = torch.Generator().manual_seed(seed)
    rows = generate(model, [[data.end]] * n, min(100, model.config.context - 1), 0.8, generator, stop_tokens=[data.end])
    return [data.tokenizer.decode([token for token in row if token != data.end]) for row in rows]
