from seedlab import commands

commands.main("bench")
