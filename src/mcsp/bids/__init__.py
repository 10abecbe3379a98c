"""Ingestion: who is there, with which recordings, and what is wrong with them."""
