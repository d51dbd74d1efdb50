"""What it may cost: pilots, prices and the threshold that an amount of money buys."""
