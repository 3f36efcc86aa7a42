"""The nodes of the pack; ids are for ever: workflows name them."""

NODE_IDS = [
    "CamouflageLoadPhotos",
    "CamouflagePrepareImage", "CamouflageDepthMap", "CamouflageNormalMap", "CamouflageSegmentationMap",
    "CamouflagePoseMap", "CamouflageLineartMap", "CamouflageCaption", "CamouflageEncodeCaptions",
    "CamouflageNegativePrompt", "CamouflageSceneControl", "CamouflageIdentityControl", "CamouflageGuider",
    "CamouflageGuidance", "CamouflageAccelerate", "CamouflageFaceAttributes", "CamouflageEditAttributes",
    "CamouflageFacePreview", "CamouflageAttributeMap", "CamouflageLightAdapterLoader", "CamouflageApplyLightAdapter",
    "CamouflageFaceEncoder", "CamouflageImagePromptLoader", "CamouflageApplyImagePrompt", "CamouflageVerify",
    "CamouflageSafeSampler", "CamouflageRedact", "CamouflageSaveImage", "CamouflageReport", "CamouflageCalibration",
    "CamouflageFacesByHand", "CamouflageFindRegions", "CamouflageSaveMasks",
]  # fmt: skip
