"""Teach a recurrent net the word "hello", and print what happens at every step.

Given h, e, l, l it must answer e, l, l, o. The two l's want different answers, so the net has to
remember. Run it: ``python examples/hello.py``.
"""

import torch
from torch.nn import functional

import unrolled as ur

LETTERS = "helo"


def ids(text: str) -> torch.Tensor:
    """Place of each character in LETTERS, (T,)."""
    return torch.tensor([LETTERS.index(letter) for letter in text])


def main() -> None:
    """Train until the loss is as good as zero, then show every step of the word."""
    torch.manual_seed(0)
    inputs, targets = ids("hell"), ids("ello")
    x = functional.one_hot(inputs, len(LETTERS)).float().unsqueeze(1)  # (T, 1, 4)
    net = ur.Recurrent(ur.cells.Elman(len(LETTERS), 3))
    readout = torch.nn.Linear(3, len(LETTERS))
    optimizer = torch.optim.Adam([*net.parameters(), *readout.parameters()], lr=0.1)

    step, loss = 0, torch.tensor(torch.inf)
    while loss > 1e-4:
        h, _ = net(x)  # (T, 1, 3)
        logits = readout(h)[:, 0]  # (T, 4)
        loss = functional.cross_entropy(logits, targets, reduction="sum")
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        if step % 200 == 0 or loss <= 1e-4:
            print(f"step {step:4d}   loss {loss.item():.5f}")
        step += 1

    print(f"\n{'input':5}  {'hidden state':24}  {'logits ' + ' '.join(LETTERS):30}  says  target")
    for t, (given, wanted) in enumerate(zip(inputs, targets, strict=True)):
        hidden = " ".join(f"{value:6.2f}" for value in h[t, 0])
        scores = " ".join(f"{value:6.1f}" for value in logits[t])
        said = LETTERS[logits[t].argmax()]
        print(f"{LETTERS[given]:5}  {hidden:24}  {scores:30}  {said:4}  {LETTERS[wanted]}")


if __name__ == "__main__":
    main()
