"""What a small run survives: kills, full disks, damaged files, odd environments, a Kaggle that misbehaves."""
