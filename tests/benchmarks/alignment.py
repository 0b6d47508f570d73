"""PPO in the big laboratory: how near to the exact optimum, after how many samples and processor seconds.

    python tests/benchmarks/alignment.py                    three seeds
    python tests/benchmarks/alignment.py --seeds 0          one

Six prompts of 2801 responses each, β = 0.5, a small GPT as policy, another as critic. The gap is what is left of the
way from the reference to π*, in percent: 100 · KL(π ‖ π*) / KL(reference ‖ π*). The goal is 2 % in 90 seconds a seed.
The seconds are those of one processor, and leave out the making of the reference and the measuring.
"""

import argparse
import copy
import time

import torch

from minillm.alignment.laboratory import Laboratory
from minillm.alignment.ppo import PPO, PPOConfig
from minillm.alignment.tabular import taught_decoder

BETA = 0.5


def reference_of(lab, d_model, n_layer, steps):
    """The SFT model, and the laboratory as seen from it."""
    model = taught_decoder(lab, d_model=d_model, n_layer=n_layer, n_head=4, steps=steps)
    return model, lab.with_reference(model)


def run(lab, reference, config, every):
    """Yield samples, seconds and what is true of the policy, a few times in a run."""
    policy = copy.deepcopy(reference)
    ppo = PPO(policy, reference, lab.reward, config)
    seconds = 0.0
    for update in range(1, config.updates + 1):
        seconds += ppo.update(lab.prompts).seconds
        if update % every == 0 or update == config.updates:
            yield update * config.rollout, seconds, lab.measure(policy, BETA)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--world", type=int, default=0, help="the seed of the laboratory")
    parser.add_argument("--d-model", type=int, default=48)
    parser.add_argument("--layers", type=int, default=2)
    parser.add_argument("--sft", type=int, default=100, help="steps in which the reference is taught")
    for name, kind, value in (("rollout", int, 256), ("updates", int, 250), ("epochs", int, 2), ("minibatches", int, 4),
                              ("lr", float, 1e-3), ("lam", float, 0.95)):  # fmt: skip
        parser.add_argument(f"--{name}", type=kind, default=value)
    a = parser.parse_args()
    torch.set_num_threads(1)
    began = time.process_time()
    reference, lab = reference_of(Laboratory.big(a.world), a.d_model, a.layers, a.sft)
    print(f"reference: {reference.n_parameters} parameters, {time.process_time() - began:.0f} s; "
          f"KL(reference ‖ π*) {lab.measure(reference, BETA).kl_to_optimum:.3f} nats")  # fmt: skip
    for seed in a.seeds:
        config = PPOConfig(beta=BETA, learning_rate=a.lr, rollout=a.rollout, max_new_tokens=lab.length,
                           updates=a.updates, eos=lab.eos, allowed_tokens=lab.allowed, seed=seed, lam=a.lam,
                           epochs=a.epochs, minibatches=a.minibatches)  # fmt: skip
        for samples, seconds, exact in run(lab, reference, config, max(1, a.updates // 8)):
            print(f"seed {seed}  samples {samples:7d}  {seconds:6.1f} s  gap {100 * exact.gap:6.2f} %  "
                  f"KL(π ‖ π*) {exact.kl_to_optimum:.4f}  score {exact.score:.3f}  KL {exact.kl:.3f}  "
                  f"H {exact.entropy:.2f}", flush=True)  # fmt: skip


if __name__ == "__main__":
    main()
