"""Studies: several sweeps that answer one paper's question, and the claims judged by them."""
