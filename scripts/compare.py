from seedlab import commands

commands.main("compare")
