"""What a person types: statements, commands, completion, highlighting."""
