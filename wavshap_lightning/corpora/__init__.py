"""Labelled recordings: corpora, labels, splits and audits."""
