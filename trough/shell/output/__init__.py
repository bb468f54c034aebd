"""What a person sees: result formats, tables, sections, and where they go."""
