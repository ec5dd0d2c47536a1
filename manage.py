#!/usr/bin/env python
"""TrainHub's command line for whoever runs it: up, demo, signin, migrate, scheduler, agent."""

import os
import sys


def main() -> None:
    os.environ.setdefault("DJANGO_SETTINGS_MODULE", "trainhub.settings")
    from django.core.management import execute_from_command_line

    from trainhub.places import ConfigurationError

    try:
        execute_from_command_line(sys.argv)
    except ConfigurationError as error:
        sys.exit(f"TrainHub's configuration is wrong: {error}")


if __name__ == "__main__":
    main()
