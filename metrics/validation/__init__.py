"""How reliable judges are: planted faults, calibration, agreement with labels."""
