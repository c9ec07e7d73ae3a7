"""torch-vggish-yamnet on the GPU, where it is installed: its YAMNet, from its own input [n, 1, 96, 64]."""

from benchmarks.gpu.piece import Plot, Table, Tables, median_ms, number, parse

PATCHES_A_CLIP = 10  # of a recording of 5 s


def main() -> None:
    """Measure and write the table."""
    options = parse("peers")
    import torch
    from torch_vggish_yamnet import yamnet

    place = torch.device(options.device)
    model = yamnet.yamnet(pretrained=False).eval().to(place)
    clips = [1, 2] if options.quick else [1, 8, 64, 256]
    rows: list[list[str]] = []
    lines: dict[str, list[tuple[float, float]]] = {}
    for name, half in (("fp32", False), ("autocast in fp16", True)):
        if half and options.device != "cuda":
            continue
        times = []
        for count in clips:
            patches = torch.randn(count * PATCHES_A_CLIP, 1, 96, 64)

            def run(patches: torch.Tensor = patches, half: bool = half) -> object:
                with torch.inference_mode(), torch.autocast(place.type, torch.float16, half):
                    return model(patches.to(place))[0].cpu()

            times.append(median_ms(run, 0.02 if options.quick else 0.3))
        rows.append([name, *map(number, times), number(1000 * clips[-1] / times[-1])])
        lines[name] = list(zip(map(float, clips), times, strict=True))
    head = ["precision", *(f"{count} clips, ms" for count in clips), f"clips/s at {clips[-1]}"]
    note = f"a clip of 5 s is {PATCHES_A_CLIP} patches of 0.96 s; their log-mels are there already; random weights"
    plot = Plot("torch-vggish-yamnet", "clips in a call", "ms", lines)
    Tables(options.json).put(Table("torch-vggish-yamnet: ms a call", head, rows, (note,), plot))


if __name__ == "__main__":
    main()
