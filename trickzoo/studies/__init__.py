"""Studies: many training runs, their statistical comparison, and a report."""
