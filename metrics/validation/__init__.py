"""How far judges can be trusted: planted faults, calibration, agreement with labels."""
