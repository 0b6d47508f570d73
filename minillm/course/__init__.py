"""Layer 8: what turns the library into a course: figures, widgets, checks, grading, the command line."""
