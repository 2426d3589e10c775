"""Reports that the rooms write: pages, figures, intervals and verdicts. Knows no network."""
