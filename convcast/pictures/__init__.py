"""Maps of forecasts as PNG, and the style that all figures share."""
