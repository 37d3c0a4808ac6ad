"""Networks trained on a table: their rates and phases, every setting settled, one run, blocks one after another."""
