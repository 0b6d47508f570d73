"""Trainers in the small laboratory: what the tests of alignment share."""

import copy

import torch

from minillm.alignment.laboratory import Laboratory
from minillm.alignment.ppo import PPO, PPOConfig
from minillm.alignment.tabular import TabularPolicy

BETA = 0.5


def random_plan(lab, seed, spread=0.7):
    """A policy somewhere: the reference with every logit moved."""
    generator = torch.Generator().manual_seed(seed)
    noise = [spread * torch.randn(log_p.shape, generator=generator, dtype=torch.float64) for log_p in lab.reference]
    return [(log_p + z).log_softmax(-1) for log_p, z in zip(lab.reference, noise, strict=True)]


def settings(lab, kind=PPOConfig, **options):
    """A `PPOConfig`, or one of its kind, for a laboratory."""
    usual = {
        "beta": BETA,
        "learning_rate": 0.1,
        "rollout": 256,
        "max_new_tokens": lab.length,
        "updates": 100,
        "eos": lab.eos,
        "allowed_tokens": lab.allowed,
    }
    return kind(**(usual | options))


def trainer(kind=PPO, lab=None, plan=None, reward=None, **options):
    """A PPO, or one of its kind, whose policy is a table that starts as `plan`."""
    lab = Laboratory.small() if lab is None else lab
    policy, reference = TabularPolicy(lab, plan), TabularPolicy(lab)
    return kind(policy, reference, lab.reward if reward is None else reward, settings(lab, **options))


def set_critic(ppo, lab, values):
    """Make a table of the critic: `values` for each depth (prompts, states); noise where no text of the tree leads."""
    states = ppo.critic.trunk.states
    with torch.no_grad():
        ppo.critic.head.weight.normal_(generator=torch.Generator().manual_seed(9)).mul_(3)
        for i, prompt in enumerate(lab.prompts):
            for depth, value in enumerate(values):
                for j, text in enumerate(lab.texts(depth)):
                    ppo.critic.head.weight[0, states(torch.tensor([[*prompt, *text]]))[0, -1]] = float(value[i, j])
    return ppo


def random_critic(ppo, lab, seed=5):
    """A critic that knows nothing and says a lot."""
    generator = torch.Generator().manual_seed(seed)
    return set_critic(ppo, lab, [torch.randn(log_p.shape[:2], generator=generator) for log_p in lab.reference])


def values_of(lab, plan, beta=BETA):
    """V of every state under a policy, for each depth (prompts, states): what a perfect critic of it says."""
    found = []

    def mean(q, depth):
        p = plan[depth].exp()
        found.insert(0, (p * (q - beta * (plan[depth] - lab.reference[depth]))).sum(-1))
        return found[0]

    lab.fold(lab.scores, mean)
    return found


def in_proportion(lab, plan, n):
    """Prompts and n responses to each, every response as often as its probability says, but for less than one."""
    prompts, texts = [], []
    for prompt, p in zip(lab.prompts, lab.log_probabilities(plan).exp(), strict=True):
        drawn = torch.searchsorted(p.cumsum(0), (torch.arange(n, dtype=torch.float64) + 0.5) / n * p.sum())
        prompts += [prompt] * n
        texts += [lab.responses[int(i)] for i in drawn.clamp(max=len(p) - 1)]
    return prompts, texts


def all_responses(lab):
    """Every prompt with every response."""
    return [p for p in lab.prompts for _ in lab.responses], [r for _ in lab.prompts for r in lab.responses]


def exact_gradient(ppo, lab, temperature=1.0):
    """The gradient of J with respect to the policy's parameters, by autograd through the whole tree."""
    policy = copy.deepcopy(ppo.policy)
    lab.objective(lab.plan(policy, temperature), BETA).backward()
    return flat_gradient(policy)


def flat_gradient(model):
    """The gradients of all parameters in one row."""
    return torch.cat([p.grad.flatten() for p in model.parameters() if p.grad is not None]).double()


def first_gradient(ppo, prompts, texts):
    """The gradient of J as PPO sees it in this rollout before the first step, in the units of J."""
    e = ppo.experience(prompts, texts)
    batch = e.rows(torch.arange(len(texts)))
    ppo.policy.zero_grad()
    ppo.policy_loss(batch)[0].backward()
    return -flat_gradient(ppo.policy) * e.tokens / len(texts)  # a mean over tokens; J is a mean over responses
