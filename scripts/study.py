from seedlab import commands

commands.main("study")
