from seedlab import commands

commands.main("replay")
