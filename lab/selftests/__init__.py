"""What `lab.selftest` checks: planted drift, and runs killed and resumed."""
