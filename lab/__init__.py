"""The front desk: commands, wiring, the conversation loop, the store, the monitor and the report."""
