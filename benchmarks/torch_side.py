"""PyTorch, eager, oneDNN on; codes are one-hot vectors made beforehand, as its layers take them."""

from collections.abc import Callable

import torch
from torch import nn

from .task import (
    BATCH,
    DROPOUT,
    LEARNING_RATE,
    LEVELS,
    N_BATCHES,
    N_STEPS,
    UNITS,
    Recipe,
    Step,
    clips,
)

CELLS = {"rnn": nn.RNN, "gru": nn.GRU, "lstm": nn.LSTM}


def version() -> str:
    return f"{torch.__version__}, {torch.get_num_threads()} threads"


class _Network(nn.Module):
    def __init__(self, cell: str | None) -> None:
        super().__init__()
        self.cell = CELLS[cell](LEVELS, 1, batch_first=True) if cell else None
        inputs = N_STEPS if cell else N_STEPS * LEVELS
        self.dense = nn.Sequential(
            nn.Flatten(),
            nn.Linear(inputs, UNITS),
            nn.ReLU(),
            nn.Dropout(DROPOUT),
            nn.Linear(UNITS, 2),
            nn.Softmax(dim=1),
        )

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.dense(x if self.cell is None else self.cell(x)[0])


def epoch(recipe: Recipe) -> Callable[[], None]:
    torch.manual_seed(0)
    codes, labels = clips()
    x = nn.functional.one_hot(torch.from_numpy(codes).long(), LEVELS).float()
    y = nn.functional.one_hot(torch.from_numpy(labels), 2).float()
    network = _Network(recipe.cell)
    optimizer = torch.optim.SGD(network.parameters(), LEARNING_RATE)

    def run() -> None:
        order = torch.randperm(len(x))
        for i in range(N_BATCHES):
            rows = order[i * BATCH : (i + 1) * BATCH]
            optimizer.zero_grad()
            loss = ((network(x[rows]) - y[rows]) ** 2).mean(dim=1).sum()
            loss.backward()
            optimizer.step()

    return run


def step(step: Step) -> Callable[[], None]:
    torch.manual_seed(0)
    layer = CELLS[step.cell](step.n_features, step.hidden_size)  # time first: its fastest layout
    x = torch.randn(step.n_steps, step.batch, step.n_features)
    if step.codes:
        symbols = torch.randint(0, step.n_features, (step.n_steps, step.batch))
        x = nn.functional.one_hot(symbols, step.n_features).float()
    dy = torch.randn(step.n_steps, step.batch, step.hidden_size)

    def infer() -> None:
        with torch.inference_mode():
            layer(x)

    def train() -> None:
        layer.zero_grad()
        layer(x)[0].backward(dy)

    return train if step.training else infer
