"""The networks that tests of cuts and stages go through."""

import torchvision

# With the size of their images, where that may be chosen.
QUICK = {
    "efficientnet_lite0": 64, "resnet18": 64, "shufflenet_v2_x0_5": 64, "googlenet": 64, "timm/test_vit": None,
    "timm/test_convnext": None, "timm/test_nfnet": None, "timm/test_efficientnet": None, "timm/test_byobnet": None,
}  # fmt: skip
NEW = ["timm/test_maxvit", "timm/test_coatnet", "timm/test_mambaout", "timm/test_vit_relpos"]
TORCHVISION = torchvision.models.list_models(module=torchvision.models)
# Where each of 25 or 33 boundaries would take a minute: four tokens a side instead of up to 16.
SMALL = {"vit_l_16": 64, "vit_h_14": 56}
# One small member of each family, convolutional and transformer.
TIMM = [
    "beit_base_patch16_224", "cait_xxs24_224", "coat_lite_tiny", "convit_tiny", "convmixer_768_32", "convnext_atto",
    "cspresnet50", "davit_tiny", "deit_tiny_patch16_224", "densenet121", "dla34", "edgenext_xx_small",
    "efficientformer_l1", "efficientvit_b0", "eva02_tiny_patch14_224", "fastvit_t8", "ghostnet_050", "hardcorenas_a",
    "hgnet_tiny", "hrnet_w18_small", "levit_128s", "maxvit_rmlp_pico_rw_256", "mixer_s32_224", "mobilenetv3_small_050",
    "mobilevit_xxs", "mvitv2_tiny", "nest_tiny", "nf_regnet_b0", "pit_ti_224", "poolformer_s12", "pvt_v2_b0",
    "regnetx_002", "repvgg_a0", "res2net50_14w_8s", "resmlp_12_224", "resnest14d", "rexnet_100", "sequencer2d_s",
    "skresnet18", "swin_tiny_patch4_window7_224", "tiny_vit_5m_224", "twins_pcpvt_small", "vit_tiny_patch16_224",
    "volo_d1_224", "xcit_nano_12_p16_224",
]  # fmt: skip
