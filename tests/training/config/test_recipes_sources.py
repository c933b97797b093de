"""Every recipe against its source's own command line or configuration, value by value."""

import pytest
from recipe_sources import command, global_batches, mapping, resolved, variables

from phases import Schedule
from phases.schedule import Schedule as ScheduleClass
from training.data.crops import short_side
from training.engine.optimizers import COEFFICIENTS
from training.models.layouts import LAYOUTS

EPS = {"rel": 1e-12, "abs": 0}


def validation(config, schedule: ScheduleClass) -> tuple[int, int]:
    """(short side, crop) in pixels, in the last phase."""
    phase = schedule.data[-1]
    return short_side(phase.val_resize or config.val_resize, phase.val_sz), phase.val_sz


@pytest.mark.parametrize("name", ["torchvision-v1", "torchvision-v2"])
def test_torchvision(name):
    flags, (config, schedule) = command(name), resolved(name)
    devices, batch, epochs = (int(flags[flag]) for flag in ("nproc_per_node", "batch-size", "epochs"))
    assert (schedule.world_size, schedule.data[0].bs, schedule.total_epochs) == (devices, batch, epochs)
    assert (config.model, config.optimizer, config.nesterov) == (flags["model"], flags["opt"], False)
    assert max(schedule.lr_at(epoch + 0.5) for epoch in range(epochs)) == float(flags["lr"])
    assert (config.momentum, config.weight_decay) == (float(flags["momentum"]), float(flags["weight-decay"]))
    assert config.no_bn_wd == ("norm-weight-decay" in flags) and float(flags.get("norm-weight-decay", 0)) == 0
    assert (config.loss, config.label_smoothing) == ("ce", float(flags["label-smoothing"]))
    assert (config.mixup, config.cutmix) == (float(flags["mixup-alpha"]), float(flags["cutmix-alpha"]))
    assert config.mix_prob == 1 and config.mix_off_epoch == 0
    assert config.policy == {"ta_wide": "trivialaugment", None: "none"}[flags.get("auto-augment")]
    assert config.random_erasing == float(flags["random-erase"])
    assert config.repeated_augmentation == int(flags.get("ra-reps", 1))
    assert config.interpolation == config.val_interpolation == flags["interpolation"]
    assert [phase.sz for phase in schedule.data] == [int(flags["train-crop-size"])]
    assert validation(config, schedule) == (int(flags["val-resize-size"]), int(flags["val-crop-size"]))
    assert config.init_bn0 is False  # torchvision's models do not, unless asked
    assert (config.ema_decay > 0) == ("model-ema" in flags)
    if "model-ema" in flags:  # train.py: adjust = world_size * batch_size * steps / epochs
        steps = int(flags["model-ema-steps"])
        alpha = min(1.0, (1.0 - float(flags["model-ema-decay"])) * devices * batch * steps / epochs)
        assert config.ema_decay == pytest.approx(1 - alpha, rel=1e-12) == pytest.approx(0.99890773, abs=5e-9)
        assert config.ema_every == steps


@pytest.mark.parametrize("name", ["rsb-a1", "rsb-a2", "rsb-a3"])
def test_resnet_strikes_back(name):
    table, (config, schedule) = mapping("rsb-table")[name], resolved(name)
    assert [(phase.sz, phase.val_sz) for phase in schedule.data] == [(table["train"], table["test"])]
    assert schedule.total_epochs == table["epochs"] and set(global_batches(schedule)) == {table["batch"]}
    assert (config.optimizer, config.weight_decay) == (table["optimizer"], table["weight_decay"])
    warm_up, cosine = schedule.lr
    assert (warm_up.end, warm_up.first, warm_up.last) == (table["warmup_epochs"], table["warmup_lr"], table["lr"])
    assert (cosine.curve, cosine.first, cosine.last) == ("cos", table["lr"], table["min_lr"])
    assert (config.loss, config.label_smoothing) == (table["loss"], table["smoothing"])
    assert (config.mixup, config.cutmix, config.mix_prob) == (table["mixup"], table["cutmix"], 1)
    magnitude, deviation = map(float, table["rand_augment"].split("/"))
    assert (config.policy_magnitude, config.policy_magnitude_std) == (magnitude, deviation)
    assert (config.drop_path, config.repeated_augmentation) == (table["drop_path"], table["repeats"])
    assert validation(config, schedule) == (int(table["test"] / table["crop_ratio"]), table["test"])
    assert config.ema_decay == config.random_erasing == 0


@pytest.mark.parametrize("name", ["rsb-a1", "rsb-a2", "rsb-a3"])
def test_resnet_strikes_back_as_another_project_has_it(name):
    theirs, (config, schedule) = mapping("rsb-mmpretrain")[name], resolved(name)
    assert config.optimizer == theirs["optimizer"].lower()
    assert config.weight_decay == theirs["weight_decay"]
    assert config.no_bn_wd and theirs["norm_decay_mult"] == theirs["bias_decay_mult"] == 0
    assert schedule.total_epochs == theirs["max_epochs"] and set(global_batches(schedule)) == {theirs["batch"]}
    warm_up, cosine = schedule.lr
    assert (warm_up.end, cosine.first, cosine.last) == (theirs["warmup_epochs"], theirs["lr"], theirs["eta_min"])
    assert (config.drop_path, config.mixup, config.cutmix) == (
        theirs["drop_path_rate"],
        theirs["mixup"],
        theirs["cutmix"],
    )
    assert (config.loss, config.bce_threshold) == ("bce" if theirs["use_sigmoid"] else "ce", 0)
    assert (config.repeated_augmentation > 1) == theirs["repeat_aug"]
    assert (config.policy, theirs["policies"], theirs["total_level"]) == ("timm-randaugment", "timm_increasing", 10)
    assert (config.policy_magnitude, config.policy_magnitude_std, config.policy_ops) == (
        theirs["magnitude_level"],
        theirs["magnitude_std"],
        theirs["num_policies"],
    )
    assert config.interpolation == config.val_interpolation == theirs["interpolation"]
    assert abs(validation(config, schedule)[0] - 236) <= 1  # they round 224 / 0.95 up, timm down


def test_bag_of_tricks():
    flags, (config, schedule) = command("bag-of-tricks"), resolved("bag-of-tricks")
    assert (schedule.world_size, schedule.data[0].bs) == (int(flags["num-gpus"]), int(flags["batch-size"]))
    assert (schedule.total_epochs, schedule.data[0].sz) == (int(flags["num-epochs"]), int(flags["input-size"]))
    assert {"resnet50_v1d": "resnet50d"}[flags["model"]] == config.model
    warm_up, cosine = schedule.lr
    assert (warm_up.end, warm_up.first) == (int(flags["warmup-epochs"]), float(flags["warmup-lr"]))
    assert (warm_up.last, cosine.first, cosine.last) == (float(flags["lr"]), float(flags["lr"]), 0)
    assert (cosine.curve, flags["lr-mode"], cosine.epoch_step) == ("cos", "cosine", False)
    assert (config.optimizer, config.nesterov) == ("sgd", flags["optimizer"] == "nag")
    assert (config.momentum, config.weight_decay) == (float(flags["momentum"]), float(flags["wd"]))
    assert (config.no_bn_wd, config.init_bn0) == (flags["no-wd"], flags["last-gamma"])
    assert flags["label-smoothing"] and config.label_smoothing == 0.1  # its EPS of smoothing, in the script
    assert flags["mixup"] and config.mixup == float(flags["mixup-alpha"]) and config.cutmix == 0
    assert validation(config, schedule) == (int(224 / float(flags["crop-ratio"])), 224)


@pytest.mark.parametrize("batch", [256, 512, 1024, 2048, 4096])
def test_lars_is_one_published_setting_scaled_with_the_batch(batch):
    theirs, (config, schedule) = variables("lars"), resolved(f"lars-{batch}")
    published = int(theirs["BATCHSIZE"]) * int(theirs["DGXNNODES"]) * int(theirs["DGXNGPU"])
    assert set(global_batches(schedule)) == {batch} and published == 3264
    warm_up, decay = schedule.lr
    assert warm_up.last == decay.first == pytest.approx(float(theirs["LR"]) * batch / published, rel=1e-12)
    assert (warm_up.first, warm_up.end, decay.end) == (0, int(theirs["WARMUP_EPOCHS"]), int(theirs["NUMEPOCHS"]))
    assert (decay.curve, decay.last) == (theirs["LRSCHED"], 1e-4)
    assert (config.optimizer, config.momentum) == ("lars", float(theirs["MOM"]))
    assert (config.weight_decay, config.trust_coefficient) == (float(theirs["WD"]), float(theirs["LARSETA"]))
    assert (config.label_smoothing, config.trust_clip) == (float(theirs["LABELSMOOTHING"]), False)


@pytest.mark.parametrize("name", ["ffcv-16", "ffcv-40"])
def test_ffcv(name):
    theirs, (config, schedule) = mapping(name), resolved(name)
    training, size = theirs["training"], theirs["resolution"]
    assert (config.model, config.optimizer) == (theirs["model"]["arch"], training["optimizer"])
    assert (schedule.world_size, schedule.total_epochs) == (theirs["dist"]["world_size"], training["epochs"])
    assert {phase.bs for phase in schedule.data} == {training["batch_size"]}
    assert (config.momentum, config.weight_decay) == (training["momentum"], training["weight_decay"])
    assert (config.no_bn_wd, config.blurpool) == (training["bn_wd"] == 0, training["use_blurpool"] == 1)
    assert (config.label_smoothing, config.tta == "flip") == (
        training["label_smoothing"],
        theirs["validation"]["lr_tta"],
    )
    crop = theirs["validation"]["resolution"]
    assert validation(config, schedule) == (int(crop * 256 / 224), crop)  # its ratio of 224/256
    for epoch in range(training["epochs"]):  # get_resolution and get_cyclic_lr of its script
        part = (epoch - size["start_ramp"]) / (size["end_ramp"] - size["start_ramp"])
        pixels = size["min_res"] + (size["max_res"] - size["min_res"]) * min(max(part, 0), 1)
        ramp = size["start_ramp"] < epoch < size["end_ramp"]
        assert schedule.data_at(epoch).sz == (round(pixels / 32) * 32 if ramp else pixels)
        peak, at = theirs["lr"]["lr"], theirs["lr"]["lr_peak_epoch"]
        lr = (
            peak * (1e-4 + (1 - 1e-4) * epoch / at)
            if epoch <= at
            else peak * (training["epochs"] - epoch) / (training["epochs"] - at)
        )
        assert schedule.lr_at(epoch) == pytest.approx(lr, rel=1e-12)


def test_composer_mild():
    theirs, (config, schedule) = mapping("composer-mild"), resolved("composer-mild")
    sgd, algorithms = theirs["optimizer"]["decoupled_sgdw"], theirs["algorithms"]
    epochs = int(int(theirs["max_duration"].removesuffix("ep")) * theirs["scale_schedule_ratio"])
    assert schedule.total_epochs == epochs == 28
    assert set(global_batches(schedule)) == {theirs["train_batch_size"]}
    assert config.model == theirs["model"]["resnet"]["model_name"] and config.loss == "bce"
    classes = 1000  # its loss is the sum over classes, ours the mean
    warm_up, cosine = schedule.lr
    rates = theirs["schedulers"]["cosine_decay_with_warmup"]
    assert (warm_up.first, warm_up.last, cosine.first) == (0, sgd["lr"] * classes, sgd["lr"] * classes)
    assert f"{warm_up.end}ep" == rates["t_warmup"]
    assert (cosine.curve, cosine.last) == ("cos", rates["alpha_f"])
    assert (config.momentum, config.nesterov) == (sgd["momentum"], sgd["nesterov"])
    decay_each_step = warm_up.last * config.weight_decay / (1 - config.momentum)  # once momentum has filled up
    assert decay_each_step == pytest.approx(sgd["weight_decay"], rel=1e-12)
    assert config.label_smoothing == algorithms["label_smoothing"]["smoothing"]
    half_life, every = (int(algorithms["ema"][key].removesuffix("ba")) for key in ("half_life", "update_interval"))
    assert config.ema_every == every and config.ema_decay == pytest.approx(2 ** (-every / half_life), rel=1e-12)
    assert config.blurpool and algorithms["blurpool"]["min_channels"] == 16
    resizing, full = algorithms["progressive_resizing"], theirs["train_dataset"]["imagenet"]["crop_size"]
    for epoch in range(epochs):
        growing = 1 - resizing["finetune_fraction"] - resizing["delay_fraction"]
        part = min(max((epoch / epochs - resizing["delay_fraction"]) / growing, 0), 1)
        scale = resizing["initial_scale"] + (1 - resizing["initial_scale"]) * part
        step = resizing["size_increment"]
        assert schedule.data_at(epoch).sz == round(full * scale / step) * step
    images = theirs["val_dataset"]["imagenet"]
    assert validation(config, schedule) == (images["resize_size"], images["crop_size"])


def test_fulcrum():
    theirs, (config, schedule) = mapping("cifar10-94-fulcrum"), resolved("cifar10-94-fulcrum")
    batch, decay_epochs = theirs["batch_size"], theirs["decay_epochs"]
    assert set(global_batches(schedule)) == {batch} and schedule.total_epochs == theirs["train_epochs"]
    assert [schedule.data_at(epoch).sz for epoch in range(9)] == theirs["res_schedule"]
    assert {phase.val_sz for phase in schedule.data} == {32}
    for position in (0, 1.5, 4, 8, 8.075, 8.5, 8.875):
        factor = max(theirs["lr_floor"], 1 - position / decay_epochs)
        assert schedule.lr_at(position) == pytest.approx(theirs["ortho_lr"] * factor, rel=1e-9)
    # of a sum of the losses, and of logits over 256 from weights of deviation 1; ours are a mean, and over 9
    peak, scale = theirs["ortho_lr"], batch * (9 / 256) ** 2
    assert config.bias_lr * peak == pytest.approx(theirs["bias_lr"] * batch, rel=1e-12)
    assert config.head_lr * peak == pytest.approx(theirs["head_lr"] * scale, rel=1e-12)
    assert config.weight_decay * config.head_lr * peak == pytest.approx(theirs["wd_base"] * batch, rel=1e-12)
    assert (config.optimizer, config.momentum, config.nesterov) == ("muon", theirs["sgd_momentum"], True)
    iteration = theirs["newton_schulz"]
    assert (config.muon_momentum, config.muon_steps) == (theirs["ortho_momentum"], iteration["steps"])
    assert list(COEFFICIENTS[config.muon_coefficients]) == iteration["coefficients"]
    assert (config.muon_rescale_every, config.muon_rescale_growth) == tuple(theirs["norm_freq"].values())
    assert (config.label_smoothing, config.whitening_epochs) == (
        theirs["label_smoothing"],
        theirs["whiten_bias_epochs"],
    )
    ema, steps = theirs["ema"], 50_000 // batch
    assert config.whitening_decay and (config.lookahead, config.lookahead_every) == (ema["decay"], ema["every"])
    assert config.lookahead_from == decay_epochs - ema["start_before"] / steps and config.lookahead_power == 0
    aug, layout = theirs["aug"], LAYOUTS[config.model]
    assert (config.brightness, config.contrast) == (aug["brightness_range"], aug["contrast_range"])
    assert (config.shift, config.flip, config.antialias) == (aug["translate"], "alternating", False)
    assert list(layout.widths) == list(theirs["net"]["widths"].values())
    assert layout.bn_momentum == 1 - theirs["net"]["batchnorm_momentum"]
    assert (layout.activation, config.tta) == (theirs["net"]["activation"], "flip-shift-25")


@pytest.mark.parametrize("name", ["imagenet18-4", "imagenet18-8", "imagenet18-16", "lambda-4x1080ti", "titan-rtx"])
def test_phase_lists_of_2018(name):
    config, schedule = resolved(name)
    if name == "lambda-4x1080ti":
        entry = mapping(name)
        flags, phases = (
            dict.fromkeys(entry["train.py args"].replace("--", "").split(), True),
            entry["training schedule"],
        )
        assert (config.momentum, config.weight_decay) == (entry["momentum"], entry["weightDecay"])
    else:
        flags = command(name)
        phases = flags["phases"]
    published = Schedule.parse(phases)
    assert published.data == schedule.data
    assert (config.init_bn0, config.no_bn_wd) == (flags["init-bn0"], flags["no-bn-wd"])
    assert (config.model, config.target, config.metric) == ("resnet50", "93", "top5")
    for step in range(10 * schedule.total_epochs + 1):
        assert schedule.lr_at(step / 10) == pytest.approx(published.lr_at(step / 10), **EPS)


def test_one_machine_of_2018():
    """titan-rtx is, by its README, a copy of the one-machine list of train.py: but for the images of 352 px there."""
    config, schedule = resolved("imagenet18-1")
    copied = Schedule.parse(command("titan-rtx")["phases"].replace("-sz/320", "-sz/352"))
    assert (copied.data, config.init_bn0, config.no_bn_wd) == (schedule.data, True, True)
    for step in range(10 * schedule.total_epochs + 1):
        assert schedule.lr_at(step / 10) == pytest.approx(copied.lr_at(step / 10), **EPS)


def test_alibaba():
    entry, (config, schedule) = mapping("alibaba-1"), resolved("alibaba-1")
    by_epoch = [schedule.data_at(epoch) for epoch in range(schedule.total_epochs)]
    sizes = [size for size in entry["imageSize"] for _ in range(size["epochs"])]
    assert [phase.sz for phase in by_epoch] == [size["image_size"] for size in sizes]
    assert [phase.rect_val for phase in by_epoch] == [size["rect_val"] for size in sizes]
    assert [phase.min_scale for phase in by_epoch] == [size["min_scale"] for size in sizes]
    batches = [batch["batch_size"] for batch in entry["batchSize"] for _ in range(batch["epochs"])]
    assert global_batches(schedule) == batches
    rates = entry["schedule"]
    assert schedule.lr_at(entry["warmup_epochs"]) == rates["max_lr"]
    assert schedule.lr_at(schedule.total_epochs) == pytest.approx(rates["min_lr"], **EPS)
    momenta = [schedule.momentum_at(position) for position in (0, entry["warmup_epochs"], schedule.total_epochs)]
    assert momenta == pytest.approx([entry["max_momentum"], entry["min_momentum"], entry["max_momentum"]])
    assert (config.nesterov, config.weight_decay) == (entry["use_nesterov"], entry["weightDecay"])
