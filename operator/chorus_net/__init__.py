"""How Chorus listens and connects: limits of listeners, addresses that nobody may reach. For operator and pods."""
