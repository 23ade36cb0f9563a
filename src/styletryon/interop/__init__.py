"""Other projects' generators."""
