"""Layer 1: programs that talk by rules, with nothing learned."""
