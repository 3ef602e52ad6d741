from seedlab import commands

commands.main("merge")
