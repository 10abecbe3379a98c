"""From raw BOLD to preprocessed BOLD."""
