"""Layer 0: notation and runtime, what everything stands on."""
