from seedlab import commands

commands.main("verify")
