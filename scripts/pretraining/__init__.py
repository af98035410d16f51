"""Pretraining of the embedded backbone: speech made on the spot, its targets, the objective."""
