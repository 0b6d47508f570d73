"""Makes this repository an nbgrader course: `solutions` is its source step, `exercises` its release step."""

c = get_config()  # type: ignore[name-defined]  # noqa: F821
c.CourseDirectory.course_id = "minillm"
c.CourseDirectory.source_directory = "solutions"
c.CourseDirectory.release_directory = "exercises"
c.CourseDirectory.submitted_directory = "grading/submitted"
c.CourseDirectory.autograded_directory = "grading/autograded"
c.CourseDirectory.feedback_directory = "grading/feedback"
c.CourseDirectory.db_url = "sqlite:///grading/gradebook.db"
c.ClearSolutions.code_stub = {"python": "# YOUR CODE HERE\nraise NotImplementedError"}
c.ClearSolutions.text_stub = "YOUR ANSWER HERE"
c.IncludeHeaderFooter.header = ""
c.ExecutePreprocessor.timeout = 120
