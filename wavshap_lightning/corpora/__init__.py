"""Labeled recordings: corpora, labels, splits and audits."""
