#!/usr/bin/env python3
"""Times one training step of the same networks in PyTorch: backpropagation, and LDFA with plain tensor operations.

The networks are 784-512-512-512-10 with ReLU, and, by backpropagation alone, PyTorch's GRU of 256 along the 28 rows of
an image with a dense layer behind its last state. The batch is 128, the loss cross-entropy, the optimizer Adam at 1e-3,
all in float32; the batch is resident and the device is waited for after every step. Runs on the CPU, and on CUDA where
it is.
"""

import argparse
import json
import statistics
import sys
import time

try:
    import torch
    from torch.nn import functional
except ImportError:
    sys.exit("torch_step.py needs PyTorch: python3 -m pip install torch")

WIDTHS = [784, 512, 512, 512, 10]
SIDE, STATE = 28, 256  # of an image, of the GRU
BATCH = 128
RATE = 1e-3
LEARNING = 20  # steps before the timing


def optimizer(parameters):
    """Adam, fused into one kernel where this PyTorch can."""
    try:
        return torch.optim.Adam(parameters, lr=RATE, fused=True)
    except (RuntimeError, TypeError):
        return torch.optim.Adam(parameters, lr=RATE)


def first_values(device, seed=0):
    """Weights (m x k) and biases (m), U(+-1/sqrt(k))."""
    generator = torch.Generator().manual_seed(seed)

    def uniform(*shape, bound):
        return ((2 * torch.rand(*shape, generator=generator) - 1) * bound).to(device)

    weights = [uniform(m, k, bound=k**-0.5) for k, m in zip(WIDTHS, WIDTHS[1:])]
    biases = [uniform(m, bound=k**-0.5) for k, m in zip(WIDTHS, WIDTHS[1:])]
    return weights, biases


def batch(device, seed=1):
    """Inputs (rows x 784) of zero mean and unit variance, and labels (rows)."""
    generator = torch.Generator().manual_seed(seed)
    x = (2 * torch.rand(BATCH, WIDTHS[0], generator=generator) - 1) * 3**0.5
    return x.to(device), (torch.arange(BATCH) % WIDTHS[-1]).to(device)


class Backprop:
    """Autograd's gradients."""

    def __init__(self, device):
        self.x, self.labels = batch(device)
        self.weights, self.biases = first_values(device)
        for tensor in self.weights + self.biases:
            tensor.requires_grad_()
        self.optimizer = optimizer(self.weights + self.biases)

    def step(self):
        """One step; returns the loss before it."""
        h = self.x
        for at, (w, b) in enumerate(zip(self.weights, self.biases)):
            h = functional.linear(h, w, b)
            if at + 1 < len(self.weights):
                h = functional.relu(h)
        loss = functional.cross_entropy(h, self.labels)
        self.optimizer.zero_grad(set_to_none=True)
        loss.backward()
        self.optimizer.step()
        return loss.detach()


class Gru:
    """Autograd's gradients through PyTorch's GRU; its first values and the dense layer's are U(+-1/sqrt(width))."""

    def __init__(self, device):
        x, self.labels = batch(device)
        self.x = x.view(BATCH, SIDE, SIDE)
        torch.manual_seed(0)
        self.cell = torch.nn.GRU(SIDE, STATE, batch_first=True).to(device)
        self.head = torch.nn.Linear(STATE, WIDTHS[-1]).to(device)
        self.optimizer = optimizer([*self.cell.parameters(), *self.head.parameters()])

    def step(self):
        """One step; returns the loss before it."""
        states, _ = self.cell(self.x)
        loss = functional.cross_entropy(self.head(states[:, -1]), self.labels)
        self.optimizer.zero_grad(set_to_none=True)
        loss.backward()
        self.optimizer.step()
        return loss.detach()


class Ldfa:
    """Errors travel back by Q P (k x r times r x m) in place of the transposed weight.

    `local` is Oja's rule for P and Hebb's for Q; `normative` lets both follow the weight.
    """

    def __init__(self, device, rule, rank):
        self.rule = rule
        self.x, self.labels = batch(device)
        self.weights, self.biases = first_values(device)
        # No feedback goes through the first layer.
        pairs = [self.pair(w, min(rank, *w.shape)) for w in self.weights[1:]]
        self.p = [None] + [p for p, _ in pairs]
        self.q = [None] + [q for _, q in pairs]
        self.optimizer = optimizer(self.weights + self.biases + self.p[1:] + self.q[1:])

    def pair(self, weight, rank):
        """P (r x m) and Q (k x r): from W^T's largest singular values for the normative rule, uniform else."""
        if self.rule == "normative":
            u, s, vt = torch.linalg.svd(weight.T, full_matrices=False)
            root = s[:rank].sqrt()
            return (root[:, None] * vt[:rank]).contiguous(), (u[:, :rank] * root).contiguous()
        m, k = weight.shape
        p = (2 * torch.rand(rank, m, device=weight.device) - 1) * rank**-0.5
        q = (2 * torch.rand(k, rank, device=weight.device) - 1) * (3 / k) ** 0.5
        return p, q

    @torch.no_grad()
    def step(self):
        """One step; returns the loss before it."""
        inputs = [self.x]
        for at, (w, b) in enumerate(zip(self.weights, self.biases)):
            h = torch.addmm(b, inputs[-1], w.T)
            inputs.append(h.relu_() if at + 1 < len(self.weights) else h)
        log_shares = functional.log_softmax(inputs.pop(), dim=1)
        loss = functional.nll_loss(log_shares, self.labels)
        delta = (log_shares.exp() - functional.one_hot(self.labels, WIDTHS[-1])) / BATCH
        for at in reversed(range(len(self.weights))):
            h, w, p, q = inputs[at], self.weights[at], self.p[at], self.q[at]
            w.grad = delta.T @ h
            self.biases[at].grad = delta.sum(0)
            if p is None:
                break
            y = delta @ p.T
            if self.rule == "normative":
                p.grad, q.grad = self.normative(w, p, q)
            else:
                p.grad, q.grad = self.oja(delta, p), h.T @ y
            # What ReLU saved is its output; its derivative is 1 where that is positive.
            delta = (y @ q.T) * (h > 0)
        self.optimizer.step()
        return loss

    @staticmethod
    def normative(w, p, q):
        """Gradients of half the squared norm of Q P - W^T, without forming that matrix."""
        return (q.T @ q) @ p - (w @ q).T, q @ (p @ p.T) - w.T @ p.T

    @staticmethod
    def oja(delta, p):
        """Turns P towards the principal subspace of the error, which is scaled to unit size first."""
        d = (delta - delta.mean(0)) / (delta.std(0).max() + 1e-8)
        y = d @ p.T
        return -(y.T @ d - (y.T @ y) @ p) / len(d)


def networks(device, rank):
    """Of every network: name, part of the first loss that warming up may leave, and rules, backpropagation first."""
    perceptron = [
        ("backprop", Backprop(device)),
        (f"ldfa oja+hebbian r={rank}", Ldfa(device, "local", rank)),
        (f"ldfa normative r={rank}", Ldfa(device, "normative", rank)),
    ]
    return [("mlp", 0.5, perceptron), ("gru", 0.8, [("backprop", Gru(device))])]


def measure(device, network, share, rules, rounds, steps):
    """Interleaved rounds; returns one row a rule."""
    wait = torch.cuda.synchronize if device == "cuda" else lambda: None
    rows, times = [], [[] for _ in rules]
    for name, rule in rules:
        losses = [rule.step().item() for _ in range(LEARNING)]
        if not losses[-1] < share * losses[0]:
            sys.exit(f"{network}: {name} does not learn on {device}: losses {losses}")
        rows.append({"device": device, "network": network, "rule": name, "losses": [losses[0], losses[-1]]})
    for _ in range(rounds):
        for (_, rule), own in zip(rules, times):
            rule.step()  # not timed: it pays for the caches that the rule before has filled
            wait()
            for _ in range(steps):
                began = time.perf_counter()
                rule.step()
                wait()
                own.append((time.perf_counter() - began) * 1e3)
    base = statistics.median(times[0])
    for row, own in zip(rows, times):
        median = statistics.median(own)
        quartiles = statistics.quantiles(own, n=4, method="inclusive") if len(own) > 1 else [median] * 3
        row.update(median_ms=median, quartiles_ms=[quartiles[0], quartiles[2]], ratio=median / base)
    return rows


def positive(text):
    number = int(text)
    if number < 1:
        raise argparse.ArgumentTypeError("a whole number of at least 1 is needed")
    return number


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rank", type=positive, default=16, help="rank of the feedback (default 16)")
    parser.add_argument("--rounds", type=positive, default=8, help="turns of every rule (default 8)")
    parser.add_argument("--steps", type=positive, default=8, help="timed steps of a turn (default 8)")
    parser.add_argument("--threads", type=positive, help="CPU threads (default: PyTorch's choice)")
    parser.add_argument("--json", metavar="FILE", help="also write everything to this file")
    arguments = parser.parse_args()
    if arguments.threads:
        torch.set_num_threads(arguments.threads)
    devices = ["cpu"] + (["cuda"] if torch.cuda.is_available() else [])
    names = {"cpu": f"CPU, {torch.get_num_threads()} threads"}
    if "cuda" in devices:
        names["cuda"] = torch.cuda.get_device_name()
    rows = [
        row
        for device in devices
        for network in networks(device, arguments.rank)
        for row in measure(device, *network, arguments.rounds, arguments.steps)
    ]
    print(f"PyTorch {torch.__version__}; {', '.join(names.values())}")
    print(f"medians of {arguments.rounds} interleaved rounds with {arguments.steps} steps each; ratio = row / backprop")
    titles = f"{'device':8}{'network':9}{'rule':28}{'median ms':>10}{'quartiles':>18}{'ratio':>8}"
    print(f"{titles}   first and last loss before timing")
    for row in rows:
        spread = "{:.2f} to {:.2f}".format(*row["quartiles_ms"])
        losses = "{:.4f}  {:.4f}".format(*row["losses"])
        names = f"{row['device']:8}{row['network']:9}{row['rule']:28}"
        print(f"{names}{row['median_ms']:10.2f}{spread:>18}{row['ratio']:8.2f}   {losses}")
    if arguments.json:
        report = {
            "torch": torch.__version__,
            "threads": torch.get_num_threads(),
            "devices": names,
            "widths": WIDTHS,
            "state": STATE,
            "batch": BATCH,
            "rounds": [arguments.rounds, arguments.steps],
            "rows": rows,
        }
        try:
            with open(arguments.json, "w", encoding="utf-8") as file:
                json.dump(report, file, indent=2)
                file.write("\n")
        except OSError as error:
            sys.exit(f"cannot write {arguments.json}: {error.strerror}; name another file with --json")


if __name__ == "__main__":
    main()
