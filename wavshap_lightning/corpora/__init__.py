"""Labelled recordings: where they come from, what they mean, how they are split."""
