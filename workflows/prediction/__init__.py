"""A network on volumes: runtimes, averages, output files and their records."""
