"""This project's pipeline: one file per stage, each turning files and params into files, nothing else."""
