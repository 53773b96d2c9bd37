"""What each stage of training minimises."""
