"""The pages of the studio, one file per tab."""
