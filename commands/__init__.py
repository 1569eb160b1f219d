"""The subcommands of `arcsm`, a file each; installed as `arcsm_cli.commands`."""
