"""The scripts, one thin argparse entry each; run as `python tools/<name>.py`."""
