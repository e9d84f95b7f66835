"""What serves the notebooks: parameters, results, tolerances, exercises and sliders. Needs the repository."""
