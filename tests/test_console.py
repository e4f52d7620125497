from rich.console import Console

from unrolled.console import comparison


def test_many_metrics_stand_under_each_other():
    """In a terminal of 60 columns every name and number is whole."""
    figures = {f"share_of_metric_{n}": n / 10 for n in range(9)}
    rows = {"this model": figures, "majority": {"share_of_metric_3": 0.25}}
    console = Console(width=60)
    with console.capture() as said:
        console.print(comparison(rows, bold="this model"))
    lines = [line.split() for line in said.get().splitlines()]
    assert lines[0] == ["this", "model", "majority"]
    assert lines[1] == ["share", "of", "metric", "0", "0.0000"]
    assert lines[4] == ["share", "of", "metric", "3", "0.3000", "0.2500"]


def test_few_stand_side_by_side():
    console = Console(width=60)
    with console.capture() as said:
        console.print(comparison({"a": {"nats_per_step": 1.5, "rows": 3}}))
    assert [line.split() for line in said.get().splitlines()] == [
        ["nats/step", "rows"],
        ["a", "1.5000", "3"],
    ]
