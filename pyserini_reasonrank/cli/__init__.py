"""The commands, their help, and what they print."""
