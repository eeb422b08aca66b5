"""What is true of providers, models and prices, without any input or output."""
