"""Studies: many trainings, their statistical comparison, and a report."""
