"""What is measured before or while a model trains, to settle how."""
