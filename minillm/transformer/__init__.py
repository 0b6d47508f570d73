"""Layer 3: networks made of attention and rows of neurons."""
