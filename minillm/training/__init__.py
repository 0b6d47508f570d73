"""Layer 4: one way to train every model of the course."""
