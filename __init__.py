"""CAMOUFLaGE for ComfyUI: anonymizes people in pictures; scene, meaning and wanted attributes stay."""

from comfy_api.latest import ComfyExtension, io

from .camouflage.comfy.routes import register
from .camouflage.comfy.weights import register_folder
from .nodes import NODES

WEB_DIRECTORY = "./js"


class CamouflageExtension(ComfyExtension):
    """All nodes of the pack."""

    async def get_node_list(self) -> list[type[io.ComfyNode]]:
        register_folder()
        register()
        return list(NODES)


async def comfy_entrypoint() -> CamouflageExtension:
    """What the host calls."""
    return CamouflageExtension()
