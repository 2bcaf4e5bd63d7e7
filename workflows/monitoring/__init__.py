"""What a training shows while it runs and afterwards: bars, tables, curves, TensorBoard and MLflow."""
