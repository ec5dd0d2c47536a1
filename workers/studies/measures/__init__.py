"""What a study may measure besides what every run tells."""
