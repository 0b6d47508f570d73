"""Layer 5: a model that was trained once is made to do something else."""
