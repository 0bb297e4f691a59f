"""Any Hugging Face causal language model, wrapped so that it can think in hidden states."""
