"""Layer 3: the block of attention and MLP, and the models that are stacks of it."""
