"""Numbers that judge explanations; nothing here knows how a model is trained."""
