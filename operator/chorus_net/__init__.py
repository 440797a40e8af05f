"""How Chorus listens and connects: limits for whoever listens, addresses that nobody may reach. For operator and pods."""
