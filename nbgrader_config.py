"""Makes this repository an nbgrader course: `solutions` is its source step, `exercises` its release step.

Two rules differ from nbgrader's own, so that it gives the points that `minillm grade` gives: a test that was deleted
comes back, and a warning costs nothing.
"""

from nbgrader.preprocessors import CheckCellMetadata, ClearOutput, DeduplicateIds, OverwriteCells, OverwriteKernelspec


class PutBack(OverwriteCells):
    """Puts deleted tests at the end; nbgrader's own way stops at a submission whose answer is missing as well."""

    def preprocess(self, nb, resources):
        # of two cells with one id, nbgrader empties the marks of the first, and then ends the run because of them
        for cell in nb.cells:
            if not cell.metadata.get("nbgrader", True):
                del cell.metadata["nbgrader"]
        return super().preprocess(nb, resources)

    def add_missing_grade_cells(self, nb, resources):
        there = {cell.metadata.get("nbgrader", {}).get("grade_id") for cell in nb.cells}
        notebook = self.gradebook.find_notebook(self.notebook_id, self.assignment_id)
        sources, answers = {c.name: c for c in notebook.source_cells}, {c.name for c in notebook.solution_cells}
        for cell in notebook.grade_cells:
            if cell.name not in there:
                missing = self.missing_cell_transform(sources[cell.name], cell.max_score, cell.name in answers)
                nb.cells.append(missing)
        return nb, resources


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
c.ExecutePreprocessor.startup_timeout = 300  # seconds; a busy machine starts a kernel late
c.Autograde.sanitize_preprocessors = [ClearOutput, DeduplicateIds, OverwriteKernelspec, PutBack, CheckCellMetadata]
c.OverwriteCells.add_missing_cells = True
c.IgnorePattern.enabled = True
c.IgnorePattern.pattern = r"(?s).*"  # of what a cell wrote to stderr: all of it
# `nbgrader zip_collect`: files called NAME_counting-words.ipynb, as a learning platform hands them out
c.ZipCollectApp.downloaded_directory = "grading/downloaded"
c.FileNameCollectorPlugin.named_regexp = r".*[/\\](?P<student_id>[^/\\_]+)_(?P<file_id>[^/\\]+)$"
