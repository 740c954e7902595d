"""What images, predicts and solves: one set of jobs, interchangeable implementations."""
