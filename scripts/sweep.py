from seedlab import commands

commands.main("sweep")
