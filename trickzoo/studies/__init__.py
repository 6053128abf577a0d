"""Studies: many trainings, compared with the statistics that the comparison needs, and written up."""
