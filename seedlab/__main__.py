"""`python -m seedlab`: the console command `seedlab`."""

from seedlab import commands

commands.main()
