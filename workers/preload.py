"""What the forkserver holds ready, so that a child starts in milliseconds.

Imports only: a torch operation before the fork would start threads that no child inherits, and hang it.
"""

import gzip  # noqa: F401
import importlib.metadata  # noqa: F401

import numpy  # noqa: F401
import torch.utils.data  # noqa: F401

import workers.checkpoint
import workers.evaluator
import workers.kernels.choosing
import workers.methods.batch_norm.local
import workers.methods.gates.asynchronous
import workers.methods.rates.constant
import workers.methods.rates.staleness_inverse
import workers.problems.digits
import workers.problems.glyphs
import workers.problems.images
import workers.problems.ledger
import workers.problems.tables
import workers.problems.texts
import workers.process
import workers.server.loop
import workers.simulator.child
import workers.trainer.group.trainer
import workers.trainer.loop  # noqa: F401
