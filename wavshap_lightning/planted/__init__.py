"""Generator of corpora in which a known cue in a known span decides the class."""
