"""Settings of how texts and signals are varied while training."""

from pydantic import Field

from unrolled.settings.values import Group


class VariedSettings(Group):
    """Varied: how texts and signals of `classify` and `embed` are varied while training."""

    drop_symbols: float = Field(
        default=0.0, ge=0, lt=1, description="Texts: leave out each symbol with this probability."
    )
    swap_symbols: float = Field(
        default=0.0, ge=0, lt=1, description="Texts: swap a symbol with the next so often."
    )
    noise_symbols: float = Field(
        default=0.0, ge=0, lt=1, description="Texts: replace a symbol by any other so often."
    )
    jitter: float = Field(
        default=0.0, ge=0, description="Signals: deviation of noise, where a channel's is 1."
    )
    amplitude: float = Field(
        default=0.0,
        ge=0,
        lt=1,
        description="Signals: scale each channel by a factor within 1 +- this.",
    )
    warp: float = Field(
        default=0.0,
        ge=0,
        lt=1,
        description="Signals: let time run faster and slower by a factor within 1 +- this.",
    )
