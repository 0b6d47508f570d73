"""Layer 1: language models that count, and how any language model is measured and sampled."""
