"""What the experiments of ``configs/`` need and distilling does not; imported by their configs."""
