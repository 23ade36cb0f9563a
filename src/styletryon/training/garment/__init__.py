"""Training and measuring the network that finds garments that nobody wears, their outline and their pose."""
