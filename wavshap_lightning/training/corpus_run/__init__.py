"""Explanations of a whole corpus on `Trainer.predict`."""
