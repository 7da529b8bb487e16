"""What happens in a dialogue: records, personas, graphs and the YAML files that describe them."""
