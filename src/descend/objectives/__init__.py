"""What is minimised: mean loss over the rows + penalty."""
