"""The kinds of gradient descent side by side: their runs, what is claimed of them, and where they end."""
