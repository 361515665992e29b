"""A TOML file to a frozen, checked schema, each value with the file and line that set it."""
