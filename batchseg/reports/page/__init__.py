"""report.html: one self-contained page about a run. Pictures and figures here, looks in the files beside."""
