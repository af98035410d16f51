"""Studies: many heads on cached features, chosen on validation speakers and tested once."""
