"""Layer 6: a model is made to do what people prefer."""
