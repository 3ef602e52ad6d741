from seedlab import commands

commands.main("report")
