"""The summary page and Snakemake's report."""
