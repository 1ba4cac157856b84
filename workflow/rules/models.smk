# One autoencoder per sensor, then the fusion of the frozen encoders.

# The number of devices changes a model by rounding only: like the keys of the transport it
# reaches the scripts through the config, where an edit of it reruns nothing.


# Long jobs first, so that short ones fill the cores beside them.
rule train_encoder:
    input:
        cubes=lambda w: [cube_file(w.sensor, cube) for cube in learning_cubes(w.sensor)],
        split=rules.split_sites.output[0],
        normalisation=rules.fit_normalisation.output[0],
        noise=rules.measure_noise.output[0],
    output:
        [out(f"models/{{sensor}}/{name}") for name in MODEL_FILES],
    log:
        out("logs/train_encoder/{sensor}.log"),
    benchmark:
        out("benchmarks/train_encoder/{sensor}.tsv")
    priority: 10
    threads: C.training.threads * C.training.devices
    resources:
        mem_mb=retry_memory(lambda w: encoder_memory(w.sensor)),
        runtime=24 * 60,
        gpu=gpus("training", C.training.devices),
    params:
        sensor=lambda w: learner_of(w.sensor),
        context=plain(C.context),
        training=C.training.model_dump(mode="json", exclude={"devices"}),
        seed=C.seed,
        state=out("state/{sensor}"),
        code=code_of("train_encoder"),
    message:
        "Training the {wildcards.sensor} autoencoder"
    script:
        f"{SCRIPTS}/train_encoder.py"


rule train_fusion:
    input:
        cubes=[cube_file(s, cube) for s in C.sensors for cube in learning_cubes(s)],
        split=rules.split_sites.output[0],
        encoders=[file for sensor in C.sensors for file in model_files(sensor)],
    output:
        fusion_files(),
    log:
        out("logs/train_fusion.log"),
    benchmark:
        out("benchmarks/train_fusion.tsv")
    priority: 10
    threads: C.training.threads
    resources:
        mem_mb=retry_memory(fusion_memory),
        runtime=60,
    params:
        cubes={s: [cube_file(s, cube) for cube in learning_cubes(s)] for s in C.sensors},
        encoders={sensor: out(f"models/{sensor}") for sensor in C.sensors},
        fusion=plain(C.fusion),
        context=plain(C.context),
        # On which rounding depends: not those of the job, which a smaller machine lowers.
        threads=C.training.threads,
        seed=C.seed,
        state=out("state/fusion"),
        code=code_of("train_fusion"),
    message:
        "Fitting the fusion"
    script:
        f"{SCRIPTS}/train_fusion.py"


rule evaluate_encoder:
    input:
        cubes=lambda w: [cube_file(w.sensor, cube) for cube in learning_cubes(w.sensor)],
        split=rules.split_sites.output[0],
        model=lambda w: model_files(w.sensor),
    output:
        out("evaluation/{sensor}.json"),
    log:
        out("logs/evaluate_encoder/{sensor}.log"),
    benchmark:
        out("benchmarks/evaluate_encoder/{sensor}.tsv")
    resources:
        mem_mb=retry_memory(lambda w: encoder_memory(w.sensor)),
        runtime=60,
    params:
        samples=C.evaluation_samples,
        seed=C.seed,
        code=code_of("evaluate_encoder"),
    message:
        "Measuring the {wildcards.sensor} reconstruction"
    script:
        f"{SCRIPTS}/evaluate_encoder.py"


rule probe_encoder:
    input:
        cubes=lambda w: [cube_file(w.sensor, cube) for cube in probed_cubes(w.sensor)],
        split=rules.split_sites.output[0],
        model=lambda w: model_files(w.sensor),
        truth=sorted(set(truth_of(cubes_of(REFERENCE)).values())),
        labels=list(labels_of_cubes().values()),
    output:
        out("evaluation/probes-{sensor}.json"),
    log:
        out("logs/probe_encoder/{sensor}.log"),
    benchmark:
        out("benchmarks/probe_encoder/{sensor}.tsv")
    resources:
        mem_mb=retry_memory(lambda w: encoder_memory(w.sensor)),
        runtime=60,
    params:
        truth=truth_of(cubes_of(REFERENCE)),
        labels=labels_of_cubes(),
        samples=C.evaluation_samples,
        seed=C.seed,
        code=code_of("probe_encoder"),
    message:
        "Probing what the {wildcards.sensor} embeddings hold"
    script:
        f"{SCRIPTS}/probe_encoder.py"


rule probe_fusion:
    input:
        cubes=[cube_file(s, cube) for s in C.sensors for cube in probed_cubes(s)],
        split=rules.split_sites.output[0],
        encoders=[file for sensor in C.sensors for file in model_files(sensor)],
        fusion=fusion_files(),
        truth=sorted(set(truth_of(cubes_of(REFERENCE)).values())),
        labels=list(labels_of_cubes().values()),
    output:
        out("evaluation/probes-fusion.json"),
    log:
        out("logs/probe_fusion.log"),
    benchmark:
        out("benchmarks/probe_fusion.tsv")
    resources:
        mem_mb=retry_memory(fusion_memory),
        runtime=60,
    params:
        cubes={s: [cube_file(s, cube) for cube in probed_cubes(s)] for s in C.sensors},
        encoders=rules.train_fusion.params.encoders,
        truth=truth_of(cubes_of(REFERENCE)),
        labels=labels_of_cubes(),
        samples=C.evaluation_samples,
        seed=C.seed,
        code=code_of("probe_fusion"),
    message:
        "Probing what the fused embeddings hold"
    script:
        f"{SCRIPTS}/probe_fusion.py"


rule evaluate_fusion:
    input:
        cubes=[cube_file(s, cube) for s in C.sensors for cube in learning_cubes(s)],
        split=rules.split_sites.output[0],
        encoders=[file for sensor in C.sensors for file in model_files(sensor)],
        fusion=fusion_files(),
    output:
        out("evaluation/fusion.json"),
    log:
        out("logs/evaluate_fusion.log"),
    benchmark:
        out("benchmarks/evaluate_fusion.tsv")
    resources:
        mem_mb=retry_memory(fusion_memory),
        runtime=60,
    params:
        cubes=rules.train_fusion.params.cubes,
        encoders=rules.train_fusion.params.encoders,
        samples=C.evaluation_samples,
        seed=C.seed,
        code=code_of("evaluate_fusion"),
    message:
        "Measuring the fused reconstruction"
    script:
        f"{SCRIPTS}/evaluate_fusion.py"
