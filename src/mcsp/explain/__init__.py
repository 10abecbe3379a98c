"""Attribution, and whether it can be believed."""
