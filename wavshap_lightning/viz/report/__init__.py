"""One self-contained HTML page about explained clips: numbers, pictures and sounds in a single file."""
