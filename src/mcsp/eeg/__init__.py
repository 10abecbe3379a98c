"""From raw EEG to the EEG temporal store."""
