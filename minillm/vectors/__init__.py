"""Layer 2: words as vectors, learned from the company that they keep."""
