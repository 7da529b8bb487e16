"""Text patterns that the rule-based judges and tripwires share."""
