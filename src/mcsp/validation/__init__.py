"""Do the attribution methods find what was planted? A study of its own, by the production code."""
