"""Messages to service plugins: their content, where they are sent, and how the two sides authenticate."""
