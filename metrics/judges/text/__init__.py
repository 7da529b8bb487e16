"""Text patterns that rule-based judges and tripwires share."""
