"""Monte Carlo estimation of attributions, with standard errors."""
