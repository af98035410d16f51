"""Attribution of a score to the elements of its input, with standard errors; pure torch."""
