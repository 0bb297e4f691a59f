"""What is compared with what, and how much it weighs: the training objective as a list of terms."""
