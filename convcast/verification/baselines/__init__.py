"""Systems that an ensemble is compared with: simple baselines and published forecasts."""
