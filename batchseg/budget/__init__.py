"""Cost before a run: pilots, prices and the threshold that an amount of money buys."""
