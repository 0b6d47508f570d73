"""Layer 2: who looks at whom: dot products, masks, positions, heads, and the cache of keys and values."""
