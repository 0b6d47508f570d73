"""Layer 1: programs for a GPU, written in Triton, each beside a plain twin that says what it computes."""
