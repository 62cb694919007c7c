"""The history of runs: Parquet files that no one has to host, and the questions that DuckDB answers from them."""
