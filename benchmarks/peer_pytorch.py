"""The peer for benchmarks/compare_peers.py: ELECTRA pre-training by transformers and PyTorch.

    pip install -r requirements-convert.txt
    python benchmarks/peer_pytorch.py [--size=tiny|small] [--steps=12]

The best loop that a user could write with them: one embedding block for both networks, the generator's
logits only at the masked positions, dropout, the losses of the paper, gradient clipping, fused AdamW,
float32. Prints one JSON object with the fields of benchmarks/pretraining_throughput.py.
"""

import argparse
import json
import os
import resource
import statistics
import time

PROCESS_START = time.time()
os.environ.setdefault("OMP_WAIT_POLICY", "passive")  # spinning threads would fight each other

import torch  # noqa: E402
from torch.nn import functional  # noqa: E402
from transformers import ElectraConfig, ElectraForMaskedLM, ElectraForPreTraining  # noqa: E402

SIZES = {  # the presets of electra_keras.options
    "tiny": dict(
        vocab_size=8192,
        embedding_size=128,
        hidden_size=128,
        num_hidden_layers=4,
        num_attention_heads=2,
        intermediate_size=512,
    ),
    "small": dict(
        vocab_size=30522,
        embedding_size=128,
        hidden_size=256,
        num_hidden_layers=12,
        num_attention_heads=4,
        intermediate_size=1024,
    ),
}
GENERATOR = {
    "tiny": dict(hidden_size=64, num_attention_heads=1, intermediate_size=256),
    "small": dict(hidden_size=64, num_attention_heads=1, intermediate_size=256),
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--size", default="small", choices=SIZES)
    parser.add_argument("--steps", type=int, default=12, help="timed steps, after two others")
    parser.add_argument("--batch_size", type=int, default=32)
    parser.add_argument("--length", type=int, default=128)
    args = parser.parse_args()
    torch.manual_seed(0)
    torch.set_num_threads(os.cpu_count())
    sizes = SIZES[args.size]
    discriminator = ElectraForPreTraining(ElectraConfig(**sizes))
    generator = ElectraForMaskedLM(ElectraConfig(**sizes | GENERATOR[args.size]))
    generator.electra.embeddings = discriminator.electra.embeddings
    generator.generator_lm_head.weight = discriminator.electra.embeddings.word_embeddings.weight
    # parameters() of one module list names a shared tensor once.
    both = torch.nn.ModuleList([discriminator, generator]).train()
    optimizer = torch.optim.AdamW(
        both.parameters(), lr=1e-4, eps=1e-6, weight_decay=0.01, fused=True
    )
    mask = torch.ones(args.batch_size, args.length, dtype=torch.long)
    slots = int(0.155 * args.length)

    def step() -> float:
        ids = torch.randint(5, sizes["vocab_size"], (args.batch_size, args.length))
        positions = torch.rand(args.batch_size, args.length).topk(slots).indices
        labels = ids.gather(1, positions)
        shown = torch.where(torch.rand(labels.shape) < 0.85, 4, labels)
        masked = ids.scatter(1, positions, shown)
        hidden = generator.electra(masked, attention_mask=mask).last_hidden_state
        hidden = hidden.gather(1, positions.unsqueeze(-1).expand(-1, -1, hidden.shape[-1]))
        logits = generator.generator_lm_head(generator.generator_predictions(hidden))
        generator_loss = functional.cross_entropy(logits.flatten(0, 1), labels.flatten())
        with torch.no_grad():
            noise = torch.empty_like(logits).exponential_()
            sampled = (logits.softmax(-1) / noise).argmax(-1)  # a sample, as Gumbel-max
        corrupted = ids.scatter(1, positions, sampled)
        found = discriminator(corrupted, attention_mask=mask).logits
        loss = generator_loss + 50 * functional.binary_cross_entropy_with_logits(
            found, (corrupted != ids).float()
        )
        optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(both.parameters(), 1.0)
        optimizer.step()
        return loss.item()

    step()
    first_step, usage = time.time() - PROCESS_START, resource.getrusage(resource.RUSAGE_SELF)
    step()
    times, cpu = [], time.process_time()
    faults = -resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    for _ in range(args.steps):
        begun = time.perf_counter()
        step()
        times.append(time.perf_counter() - begun)
    faults += resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    median = statistics.median(times)
    result = {
        "size": args.size,
        "devices": f"PyTorch {torch.__version__}, transformers",
        "examples_per_second": round(args.batch_size / median, 2),
        "step_seconds": round(median, 4),
        "cpu_seconds": round((time.process_time() - cpu) / args.steps, 4),
        "first_step_seconds": round(first_step, 1),
        "first_step_peak_memory_mb": round(usage.ru_maxrss / 1024),
        "peak_memory_mb": round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024),
        "page_faults": round(faults / args.steps),
    }
    print(json.dumps(result))


if __name__ == "__main__":
    main()
