from seedlab import commands

commands.main("audit")
