"""A corpus generator with known evidence: cues planted in synthetic and recorded speech."""
