"""minillm: the road of language models, from rules to RLHF, small enough to read and run on a laptop.

The files in the order of history, which is also the only direction of imports: a file may import its own
folder and the layers above it in this list. A test holds that, and that this map names exactly the files there are.

layer 0  core          what everything stands on
    core/notation.py            the letters for axes, and the checker of their promises
    core/runtime.py             device, number format and seed, each with the reason for it

layer 1  text          where text comes from and how it becomes numbers
    text/village.py             Village: a generated little world whose every text has a known probability

layer 1  rules         programs that talk by rules

layer 1  statistical   counting words
    statistical/information.py  entropy, cross-entropy, KL, perplexity and bits per character
    statistical/ngram_counts.py counting n-grams with sorted arrays
    statistical/smoothing.py    counts into probabilities: add-k, Jelinek-Mercer, Kneser-Ney
    statistical/arpa.py         n-gram models as ARPA files, in and out
    statistical/ngram.py        NGramModel: fit, score, sample
    statistical/sampling.py     sample_next: greedy, temperature, top-k, top-p, for every model

layer 8  course        what turns the library into a course
"""

__version__ = "0.1.0"
