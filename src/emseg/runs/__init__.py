"""Run folders, fingerprints, locks and records of results."""
