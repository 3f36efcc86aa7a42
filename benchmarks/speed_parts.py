"""The parts of ``python -m benchmarks.speed --gpu`` that measure less than a picture: kernels, networks, recordings."""

from __future__ import annotations

import contextlib
import signal
import time
from argparse import Namespace
from collections.abc import Callable, Iterator
from functools import cached_property
from types import SimpleNamespace
from typing import Any

import torch
import torch.nn.functional as F
from torch.utils.flop_counter import FlopCounterMode, sdpa_flop_count

from benchmarks.base import conditionings, control_nets, guided
from benchmarks.flops import start_host
from benchmarks.host import CUDA, SHAPES, Sampling, now, random_model, random_state, random_text, shapes_in
from benchmarks.light import CONTEXT, Light
from benchmarks.speed_counts import GRAPHS
from benchmarks.speed_graphs import accelerated
from benchmarks.speed_networks import narrow_networks
from testing.counting import StandIn, tensors_in

Row = dict[str, Any]
KERNELS = 1000
SIGMA = 5.0  # at which all five scene controls act
CPU_ATTENTION = {torch.ops.aten._scaled_dot_product_flash_attention_for_cpu:
                 lambda query, key, value, *_, **__: sdpa_flop_count(query, key, value)}


class Bench:
    """What the parts share, made when first asked for.

    Args:
        options: ``rehearse``, ``size`` and ``seconds`` of the command.
        host: None starts it, with PyTorch's attention.
    """

    def __init__(self, options: Namespace, host: Any = None):
        self.host: Any = host or start_host()
        self.rehearse = rehearse = options.rehearse
        self.end = time.perf_counter() + options.seconds
        self.size = 64 if rehearse else options.size
        self.sizes = (64, 128) if rehearse else (256, 512, options.size)
        self.batches = (1, 2) if rehearse else (1, 2, 8)
        self.steps, self.warm_up = (4, 3) if rehearse else (30, 12)  # of pictures, and of those that are not counted

    @property
    def left(self) -> float:
        """Seconds."""
        return self.end - time.perf_counter()

    @cached_property
    def networks(self) -> tuple[Any, dict[str, Any]]:
        """MODEL and CONTROL_NETs, random."""
        if self.rehearse:
            return narrow_networks()
        return random_model(SHAPES["full"]), control_nets(SHAPES["full"])

    @property
    def model(self) -> Any:
        """The MODEL."""
        return self.networks[0]

    @property
    def nets(self) -> dict[str, Any]:
        """The CONTROL_NETs."""
        return self.networks[1]

    @cached_property
    def conds(self) -> dict[str, Any]:
        """Base's positive, negative and identity."""
        return conditionings(self.host, self.nets, self.size)

    @cached_property
    def light(self) -> Light:
        """Light's parts."""
        return Light(self.host, self.model, self.size)

    @property
    def device(self) -> torch.device:
        """That samples."""
        return self.model.load_device

    def network(self) -> Any:
        """The UNet, loaded, with all ControlNets."""
        import comfy.model_management as mm

        mm.load_models_gpu([self.model, *(net.control_model_wrapped for net in self.nets.values())])
        return self.model.get_model_object("diffusion_model")

    def recorder(self) -> Any:
        """Of CUDA graphs, or what stands in for them."""
        return self.host.pack(GRAPHS).CudaGraphs(self.device) if CUDA else StandIn()

    def timed(self, function: Callable[[], Any]) -> Row:
        """Seconds of a call, and until the CPU has asked for all of it."""
        for _ in range(2):
            function()
        started = now()
        function()
        issued = time.perf_counter() - started
        runs = max(1, min(30, int((0.02 if self.rehearse else 1.0) / (now() - started))))
        started = now()
        for _ in range(runs):
            function()
        return {"seconds": (now() - started) / runs, "issue_seconds": issued}

    def inputs(self, batch: int, size: int) -> list[torch.Tensor]:
        """Latent, time and text of the UNet and of ControlNets, and a hint."""
        dtype = self.model.model.manual_cast_dtype or self.model.model.get_dtype()
        shapes = (batch, 4, size // 8, size // 8), (batch,), (batch, 77, CONTEXT), (batch, 3, size, size)
        return [torch.rand(shape, device=self.device).to(dtype) for shape in shapes]


def flops_of(function: Callable[[], Any]) -> int:
    """Of a call, with the CPU's attention, which torch's counter does not know."""
    with FlopCounterMode(display=False, custom_mapping=CPU_ATTENTION) as counter:
        function()
    return counter.get_total_flops()


def launches(bench: Bench) -> Iterator[Row]:
    """What it costs to start a kernel that does nearly nothing, by itself and in a recording."""
    place = torch.zeros(1, device=bench.device)

    def many() -> torch.Tensor:
        for _ in range(KERNELS):
            place.add_(1)
        return place

    replay = bench.recorder().record(many)[1]
    for name, function in (("a kernel started by itself", many), ("a kernel of a recording", replay)):
        yield {"what": name, **{key.replace("seconds", "us"): value * 1e6 / KERNELS
                                for key, value in bench.timed(function).items()}}


def noise(bench: Bench) -> Iterator[Row]:
    """The sampler with a model that costs nothing: with the host's Brownian tree, and with noise prepared ahead."""
    prepared = bench.host.pack("camouflage.comfy.acceleration.prepared_noise")
    sampling = Sampling(bench.host, bench.model, bench.size, bench.steps)
    guider, = bench.host.run("BasicGuider", model=bench.model, conditioning=random_text())
    start = sampling.noise.generate_noise(sampling.latent)

    class Still:
        inner_model = SimpleNamespace(model_patcher=bench.model, inner_model=bench.model.model)

        def __call__(self, x: torch.Tensor, sigma: torch.Tensor, **_: Any) -> torch.Tensor:
            return x * 0.9

    def sample(sampler: Any) -> torch.Tensor:
        return sampler.sampler_function(Still(), start.to(bench.device), sampling.sigmas.to(bench.device),
                                        extra_args={"seed": 1, "model_options": {}}, callback=None, disable=True,
                                        **sampler.extra_options)

    def with_prepared() -> torch.Tensor:
        sampler, values = prepared.prepare(guider, sampling.sampler, start, sampling.sigmas, 1)
        values.begin(start, sampling.sigmas.to(bench.device), 1)
        try:
            return sample(sampler)
        finally:
            values.close()

    results = {}
    prepared.memory.clear()
    for name, function in (("the host's", lambda: sample(sampling.sampler)),
                           ("prepared, nothing beside", with_prepared), ("remembered", with_prepared)):
        started = now()
        results[name] = function()
        yield {"what": name, "seconds": now() - started, "equal": torch.equal(results[name], results["the host's"])}


def networks(bench: Bench) -> Iterator[Row]:
    """One pass of the UNet and of a ControlNet: where more work takes no longer, it is the launches that take time."""
    unet = bench.network()
    net = bench.nets["depth"].control_model
    for size in bench.sizes:
        for batch in bench.batches:
            x, t, text, hint = bench.inputs(batch, size)
            for name, function in (("UNet", lambda: unet(x, t, text, transformer_options={})),  # noqa: B023
                                   ("ControlNet", lambda: net(x=x, hint=hint, timesteps=t, context=text))):  # noqa: B023
                measured = bench.timed(function)
                yield {"network": name, "size": size, "batch": batch, **measured,
                       "tflop_a_second": flops_of(function) / 1e12 / measured["seconds"]}


def recordings(bench: Bench) -> Iterator[Row]:
    """CUDA graphs of the UNet and of the five joined scene controls beside the same without."""
    module, joining = bench.host.pack(GRAPHS), bench.host.pack("camouflage.comfy.acceleration.joined_controls")
    options = bench.host.pack("camouflage.comfy.transformer_options")
    unet = bench.network()
    x, t, text, _ = bench.inputs(2, bench.size)
    held = module.Graphs(bench.recorder())

    def plain() -> Any:
        return unet(x, t, text, transformer_options={})

    def played() -> Any:
        return held.run("unet", 0, [x, t, text], [], lambda changing, _: unet(*changing, transformer_options={}))

    yield {"what": "UNet, batch 2", **recorded(bench, plain, played, x), "recordings": len(held)}
    control = joining.join(bench.conds["positive"][0][1]["control"], {})
    control.pre_run(bench.model.model, bench.model.get_model_object("model_sampling").percent_to_sigma)
    session = module.Session(module.Graphs(bench.recorder()), bench.device)
    latent, sigma = torch.randn_like(x, dtype=torch.float32), torch.full((2,), SIGMA, device=bench.device)
    cond = {"c_crossattn": text.float()}

    def controls(of: Any) -> Any:
        control.session = of
        return control.get_control(latent, sigma, cond, 2, {options.SIGMA: SIGMA})

    row = recorded(bench, lambda: controls(None), lambda: controls(session), latent)
    yield {"what": "five controls, batch 2", **row, "recordings": len(session.graphs)}
    control.cleanup()


def recorded(bench: Bench, plain: Callable[[], Any], played: Callable[[], Any], changes: torch.Tensor) -> Row:
    """Times a call without and with recordings, and whether it gives the same once its input has changed."""
    row: Row = {"eager": bench.timed(plain)}
    played()  # the first call is never recorded
    before, started = _reserved(), now()
    played()
    row |= {"record_seconds": now() - started, "memory_gb": (_reserved() - before) / 1e9, "replay": bench.timed(played)}
    changes.copy_(torch.rand_like(changes))
    pairs = list(zip(tensors_in(plain()), tensors_in(played()), strict=True))
    return {**row, "equal": all(torch.equal(one, other) for one, other in pairs), "tensors": len(pairs)}


def rates(bench: Bench) -> Iterator[Row]:
    """How fast the UNet's largest batch runs with what PyTorch has to choose from, and attention at its outer level."""
    from torch.nn.attention import SDPBackend, sdpa_kernel

    unet, batch = bench.network(), bench.batches[-1]
    x, t, text, _ = bench.inputs(batch, bench.size)

    def run() -> Any:
        return unet(x, t, text, transformer_options={})

    flops, usual = flops_of(run), torch.backends.cudnn.benchmark
    try:
        for layout in (torch.contiguous_format, torch.channels_last):
            unet.to(memory_format=layout)
            x = x.contiguous(memory_format=layout)
            for tries in (False, True):
                torch.backends.cudnn.benchmark = tries
                measured = bench.timed(run)
                yield {"what": f"UNet, batch {batch}", "layout": str(layout), "cudnn.benchmark": tries, **measured,
                       "tflop_a_second": flops / 1e12 / measured["seconds"]}
    finally:
        torch.backends.cudnn.benchmark = usual
        unet.to(memory_format=torch.contiguous_format)
    query = torch.rand(2, 8, (bench.size // 8) ** 2, 40, device=bench.device, dtype=x.dtype)
    for backend in (SDPBackend.FLASH_ATTENTION, SDPBackend.CUDNN_ATTENTION, SDPBackend.EFFICIENT_ATTENTION,
                    SDPBackend.MATH):
        try:
            with sdpa_kernel(backend):
                measured = bench.timed(lambda: F.scaled_dot_product_attention(query, query, query))
        except RuntimeError as error:
            yield {"what": f"attention, {backend.name}", "not_there": str(error).split("\n")[0]}
            continue
        yield {"what": f"attention, {backend.name}", **measured,
               "tflop_a_second": sdpa_flop_count(*[query.shape] * 3) / 1e12 / measured["seconds"]}


def vae(bench: Bench) -> Iterator[Row]:
    """Encoding and decoding of a picture by the host, random weights of the real shapes."""
    import comfy.sd
    from comfy.ldm.models.autoencoder import AutoencoderKL

    bench.host.pack(GRAPHS)
    with torch.device("meta"):
        network = AutoencoderKL(embed_dim=4, ddconfig={
            "double_z": True, "z_channels": 4, "resolution": 256, "in_channels": 3, "out_ch": 3, "ch": 128,
            "ch_mult": [1, 2, 4, 4], "num_res_blocks": 2, "attn_resolutions": [], "dropout": 0.0})
    host_vae = comfy.sd.VAE(sd=random_state(shapes_in(network)))
    picture, latent = torch.rand(1, bench.size, bench.size, 3), torch.randn(1, 4, bench.size // 8, bench.size // 8)
    for name, function in (("encode", lambda: host_vae.encode(picture)), ("decode", lambda: host_vae.decode(latent))):
        yield {"what": name, "dtype": str(host_vae.vae_dtype), **bench.timed(function)}


def caption(bench: Bench) -> Iterator[Row]:
    """A caption of 40 tokens with three beams as the node *Caption* asks for it, random weights of BLIP's shapes."""
    from transformers import BlipConfig, BlipForConditionalGeneration

    small: Any = {"hidden_size": 64, "intermediate_size": 128, "num_hidden_layers": 2, "num_attention_heads": 4}
    config: Any = BlipConfig(**({"text_config": {**small, "encoder_hidden_size": 64}, "vision_config": small}
                                if bench.rehearse else {}))
    dtype = torch.float16 if CUDA else torch.float32
    network: Any = BlipForConditionalGeneration(config).eval().to(bench.device, dtype)
    side = config.vision_config.image_size
    picture = torch.rand(1, 3, side, side, device=bench.device, dtype=dtype)
    tokens = 4 if bench.rehearse else 40
    yield {"what": f"{tokens} tokens", **bench.timed(lambda: network.generate(
        pixel_values=picture, max_new_tokens=tokens, min_new_tokens=tokens, num_beams=3, do_sample=False))}


def compiled(bench: Bench) -> Iterator[Row]:
    """torch.compile of the UNet by itself, then of UNet and controls as with the host's compile node; ends in time."""
    from comfy_api.torch_helpers import set_torch_compile_wrapper

    backend = "eager" if bench.rehearse else "inductor"
    with time_limit(min(bench.left - 5, 200.0) if bench.rehearse else bench.left - 5):
        unet = bench.network()
        x, t, text, _ = bench.inputs(2, bench.size)
        network: Any = torch.compile(unet, backend=backend)

        def run() -> Any:
            return network(x, t, text, transformer_options={})

        started = now()
        run()
        yield {"what": "UNet, batch 2", "compile_seconds": now() - started, **bench.timed(run)}
        model = accelerated(bench.host, bench.model, "exact")
        set_torch_compile_wrapper(model, backend=backend)
        guider = guided(bench.host, model, bench.conds)
        sampling = Sampling(bench.host, bench.model, bench.size, bench.steps)
        for name in ("Base exact, compiled, first picture", "second picture"):
            started = now()
            sampling(guider)
            yield {"what": name, "seconds": now() - started}


@contextlib.contextmanager
def time_limit(seconds: float) -> Iterator[None]:
    """Raises TimeoutError in what takes longer, where the system has an alarm."""
    if not hasattr(signal, "SIGALRM"):
        yield
        return

    def ring(*_: Any) -> None:
        raise TimeoutError(f"not done within {seconds:.0f} s")

    former = signal.signal(signal.SIGALRM, ring)
    signal.setitimer(signal.ITIMER_REAL, max(seconds, 0.1))
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, former)


def _reserved() -> int:
    return torch.cuda.memory_reserved() if CUDA else 0
