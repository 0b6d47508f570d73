"""Layer 2: networks that predict the next token: a window of words, and states that are carried along."""
