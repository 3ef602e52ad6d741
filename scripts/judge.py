from seedlab import commands

commands.main("judge")
