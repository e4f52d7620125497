"""Training as the loop does it, in its plainest form."""

import torch
from torch import nn


def learn(task, steps):
    """Train a task's model on its first batches; nothing may be carried on."""
    training = task.settings.training
    model = task.build()
    optimizer = torch.optim.Adam(model.parameters(), lr=training.lr)
    for step in range(steps):
        loss, carry = task.loss(model, task.batch(step, slice(0, training.batch_size)), {})
        assert carry == {}
        optimizer.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(model.parameters(), training.clip_norm)
        optimizer.step()
    return model.eval()
