"""What is done with finished images."""
