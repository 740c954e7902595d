"""What engines share that do their work with programs of others: running, finding, copies."""
