from seedlab import commands

commands.main("accelerator")
