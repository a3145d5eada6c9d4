"""Results of a verification: sums by day, stored scores of cases, the table of scores."""
