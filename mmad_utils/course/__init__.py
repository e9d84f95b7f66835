"""Tools of the course notebooks: parameters, results, tolerances, exercises and sliders; they need the repository."""
