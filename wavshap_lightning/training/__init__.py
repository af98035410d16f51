"""Lightning and W&B live here and nowhere else."""
