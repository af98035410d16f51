"""What a score owes to each element of its input: pure torch, with its own error stated."""
