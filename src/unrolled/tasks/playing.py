"""Music that a forecaster of notes writes: each step is drawn, and read as the next input.

T steps.
"""

import json
from collections.abc import Iterator
from typing import Protocol

import numpy as np
import torch
from torch import Tensor, nn

from unrolled.data.midi import KEYS, LOWEST, SUFFIXES, midi_bytes
from unrolled.data.music import Music, rolled
from unrolled.data.sequences import Source
from unrolled.errors import InputError
from unrolled.settings import Settings
from unrolled.tasks.decoding import Drawing, Sampler
from unrolled.tasks.drawing import INK, encode, make_figure

NAMES = ("C", "C#", "D", "D#", "E", "F", "F#", "G", "G#", "A", "A#", "B")
MARGIN = 2
"""Keys that are drawn below the lowest that sounds, and above the highest."""


class Forecasts(Protocol):
    """A forecaster."""

    source: Source
    settings: Settings


def sample(
    task: Forecasts,
    model: nn.Module,
    prompt: str = "",
    *,
    length: int = 64,
    temperature: float = 1.0,
    top_k: int | None = None,
    seed: int = 0,
    sample: int = 0,
) -> Iterator[str]:
    """Write music on, a line a step: the keys that sound, and their names.

    Args:
        task: What forecasts.
        model: The model.
        prompt: A file of one piece, which is played first; without it, the opening of a piece that was
            learned.
        length: Steps to draw.
        temperature: Log odds are divided by it; 0 plays the keys that are likelier than not.
        top_k: Play at most the k likeliest keys at once.
        seed: The same seed gives the same music.
        sample: Which of several samples of this seed.

    Raises:
        InputError: If the model does not forecast music, an argument is out of range, or the prompt cannot be
            read.
    """
    music = _music(task)
    low, high = _range(music)
    drawing = Drawing(temperature, top_k)
    for t, step in enumerate(_played(task, model, music, prompt, length, drawing, seed, sample)):
        notes = np.flatnonzero(step) + LOWEST
        keys = "".join("#" if step[key - LOWEST] else "." for key in range(low, high + 1))
        yield f"{t:4} {keys} {' '.join(map(note_name, notes.tolist()))}".rstrip() + "\n"


def compose(
    task: Forecasts,
    model: nn.Module,
    prompt: str,
    kind: str,
    *,
    length: int = 64,
    temperature: float = 1.0,
    top_k: int | None = None,
    seed: int = 0,
) -> bytes:
    """Write music on as the content of a file.

    Args:
        task: What forecasts.
        model: The model.
        prompt: As for :func:`sample`, and so are all others.
        kind: ``.json``, which can be read as music again: an object of one list of steps, each a list of MIDI
            notes; ``.mid``, a MIDI file; or ``.png``, a piano roll.
        length: Steps to draw.
        temperature: Log odds are divided by it.
        top_k: Play at most so many keys at once.
        seed: The same seed gives the same music.

    Raises:
        InputError: If the kind is another; else as :func:`sample`.
    """
    music = _music(task)
    if kind.lower() not in (".json", ".png", *SUFFIXES):
        raise InputError(
            f"--out {kind or 'without an ending'}: music is written to .json, .mid or .png"
        )
    drawing = Drawing(temperature, top_k)
    roll = np.array([*_played(task, model, music, prompt, length, drawing, seed, 0)])
    if kind.lower() == ".json":
        steps = [(np.flatnonzero(step) + LOWEST).tolist() for step in roll]
        return (json.dumps({"sample": [steps]}) + "\n").encode()
    return midi_bytes(roll, music.quarter) if kind.lower() in SUFFIXES else piano_roll(roll)


def piano_roll(roll: np.ndarray) -> bytes:
    """Draw which keys sound at each step (T, 88) as a PNG."""
    figure = make_figure((max(5.0, 0.09 * len(roll) + 1.5), 5))
    panel = figure.subplots()
    extent = (-0.5, len(roll) - 0.5, LOWEST - 0.5, LOWEST + KEYS - 0.5)
    panel.imshow(
        roll.T, cmap="gray_r", origin="lower", aspect="auto", interpolation="nearest", extent=extent
    )
    octaves = range(24, LOWEST + KEYS, 12)
    panel.set_yticks([*octaves], [note_name(note) for note in octaves], color=INK)
    notes = np.flatnonzero(roll.any(0)) + LOWEST
    if len(notes):
        panel.set_ylim(notes[0] - MARGIN - 0.5, notes[-1] + MARGIN + 0.5)
    panel.set_xlabel("step", color=INK)
    panel.spines[["top", "right"]].set_visible(False)
    return encode(figure)


def note_name(note: int) -> str:
    """Name a MIDI note: 60 is C4."""
    return f"{NAMES[note % 12]}{note // 12 - 1}"


def _music(task: Forecasts) -> Music:
    if not isinstance(task.source, Music):
        raise InputError(
            f"a forecast model writes music alone, and this one learned {task.source.kind}; use predict or "
            "evaluate"
        )
    return task.source


def _range(music: Music) -> tuple[int, int]:
    notes = [note for opening in music.openings for note in opening] or [LOWEST, LOWEST + KEYS - 1]
    low, high = min(notes) - 12, max(notes) + 12
    return max(low, LOWEST), min(high, LOWEST + KEYS - 1)


def _played(
    task: Forecasts,
    model: nn.Module,
    music: Music,
    prompt: str,
    length: int,
    drawing: Drawing,
    seed: int,
    number: int,
) -> Iterator[np.ndarray]:
    """Give what is played first, step by step (88,), and then what is drawn."""
    if length < 0:
        raise InputError(f"--length must be 0 or more, not {length}")
    random = Sampler(drawing, seed, number).random
    if prompt:
        roll = music.asked(prompt).x[:, 0]
    elif music.openings:
        roll = rolled([music.openings[int(random.integers(len(music.openings)))]], "the opening")
    else:
        raise InputError("this model keeps no openings; give it a piece with --prompt FILE")
    return _drawn(_Player(model, task.settings), roll, length, drawing, random)


def _drawn(
    player: "_Player", roll: np.ndarray, length: int, drawing: Drawing, random: np.random.Generator
) -> Iterator[np.ndarray]:
    yield from roll
    steps = roll
    for _ in range(length):
        step = keys_drawn(player.log_odds(steps), drawing, random)
        yield step
        steps = step[None]


def keys_drawn(log_odds: np.ndarray, drawing: Drawing, random: np.random.Generator) -> np.ndarray:
    """Draw each key by itself: log odds (88,) -> 0 or 1 (88,)."""
    chances = random.random(len(log_odds))
    if drawing.temperature == 0:
        step = log_odds > 0
    else:
        step = chances < 1 / (1 + np.exp(-np.clip(log_odds / drawing.temperature, -500, 500)))
    if drawing.top_k is not None:
        step[np.argsort(-log_odds, kind="stable")[drawing.top_k :]] = False
    return step.astype(float)


class _Player:
    """Reads steps, and keeps the states or, of a model without, the steps it looks back on."""

    def __init__(self, model: nn.Module, settings: Settings) -> None:
        self.model, self.dtype = model, getattr(torch, settings.model.dtype)
        self.device = next(model.parameters()).device
        self.states: dict[str, Tensor] | None = None
        self.past = torch.zeros(0, 1, KEYS, dtype=self.dtype, device=self.device)

    @torch.no_grad()
    def log_odds(self, steps: np.ndarray) -> np.ndarray:
        """Read steps (T, 88) -> log odds of the next one's keys (88,)."""
        x = torch.from_numpy(steps).to(self.device, self.dtype)[:, None]
        if self.model.carries:
            y, self.states = self.model(x, states=self.states)
        else:
            reach = int(self.model.reach)  # pyright: ignore[reportArgumentType]
            self.past = torch.cat([self.past, x])[-reach:]
            y, _ = self.model(self.past)
        return y[-1, 0].double().cpu().numpy()
