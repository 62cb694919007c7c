"""What GitHub shows of an analysis: the comment, the job summary, the check and the annotations."""
