"""From preprocessed BOLD or ready series to the fMRI temporal store."""
