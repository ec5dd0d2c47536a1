"""The door for admins: looks at every row, and steers through trainhub.actions. One noun a file."""

from trainhub.admin import access, audit, datasets, events, experiments, members, nodes, people, projects, runs

__all__ = ["access", "audit", "datasets", "events", "experiments", "members", "nodes", "people", "projects", "runs"]
