"""From raw BOLD and T1w to derivatives in the layout of fMRIPrep: in a container, or here."""
