"""Layer 6: a model is made to prefer what people prefer."""
