"""What is kept on disk: runs, and what people decided. Shards merge by putting files side by side."""
